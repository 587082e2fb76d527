package debian

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const (
	aMain     = "http://mirror.example.org/debian"
	aSecurity = "http://mirror.example.org/debian-security"
)

// debian12 is what a Debian 12 image ships, backports and third parties added.
const debian12 = `Types: deb
# an address in a comment: http://snapshot.example.org/archive/debian/20250520T000000Z
URIs: http://mirror.example.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`

func host(files ...string) fs.FS {
	m := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		m["etc/apt/"+files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return m
}

func TestFromAPT(t *testing.T) {
	for _, tc := range []struct {
		name    string
		host    fs.FS
		want    Mirror
		missing []string
	}{{
		name: "Debian 12 deb822 with backports",
		host: host("sources.list.d/debian.sources", debian12,
			"sources.list.d/backports.sources", "Types: deb\nURIs: http://mirror.example.org/debian\nSuites: bookworm-backports\nComponents: main\n",
			"sources.list.d/cloud.list", "deb https://packages.example.com/apt cloud-sdk-bookworm main\n",
			"sources.list.d/node.sources", "Types: deb\nURIs: https://deb.example.com/node_20.x\nSuites: nodistro\nComponents: main\nSigned-By: /usr/share/keyrings/node.gpg\n"),
		want: Mirror{Main: aMain, Security: aSecurity},
	}, {
		name: "classic list, buster's security suite, cdrom and sources",
		host: host("sources.list", "# deb cdrom:[Debian GNU/Linux 10]/ buster main\n"+
			"deb cdrom:[Debian GNU/Linux 10 _Buster_]/ buster main\n"+
			"deb-src http://src.example.org/debian/ buster main\n"+
			"deb http://mirror.example.org/debian/ buster main contrib # local\n"+
			"deb http://mirror.example.org/debian-security/ buster/updates main\n"),
		want: Mirror{Main: aMain, Security: aSecurity},
	}, {
		name: "classic list with options and https",
		host: host("sources.list", "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] https://m.example.org/pub/deb trixie main\n"+
			"deb [ arch=amd64 ] https://m.example.org/sec trixie-security main non-free-firmware\n"),
		want: Mirror{Main: "https://m.example.org/pub/deb", Security: "https://m.example.org/sec"},
	}, {
		name: "third party with Debian's suite and folder names comes first",
		host: host("sources.list", "deb https://pi.example.com/debian/ bookworm main\n"+
			"deb http://mirror.example.org/debian bookworm main\n"+
			"deb http://mirror.example.org/debian bookworm-updates main\n"+
			"deb http://mirror.example.org/debian-security bookworm-security main\n",
			"sources.list.d/prod.list", "deb [signed-by=/etc/keys/prod.gpg] https://prod.example.com/debian/12/prod bookworm main\n",
			"sources.list.d/docker.list", "deb https://docker.example.com/linux/debian bookworm stable\n"),
		want: Mirror{Main: aMain, Security: aSecurity},
	}, {
		name: "mirror lists of a cloud image",
		host: fstest.MapFS{
			"etc/apt/sources.list.d/debian.sources": {Data: []byte("Types: deb deb-src\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie trixie-updates trixie-backports\nComponents: main\n\n" +
				"Types: deb deb-src\nURIs: mirror+file:/etc/apt/mirrors/debian-security.list\nSuites: trixie-security\nComponents: main\n")},
			"etc/apt/mirrors/debian.list":          {Data: []byte("# first\nfile:/srv/debian\npriority:2\n" + aMain + "\tpriority:1\n")},
			"etc/apt/mirrors/debian-security.list": {Data: []byte(aSecurity + "/\n")},
		},
		want: Mirror{Main: aMain, Security: aSecurity},
	}, {
		name: "frozen mirror: apt does not check Valid-Until",
		host: host("sources.list.d/debian.sources", debian12, "apt.conf.d/99frozen", "// Acquire::Check-Valid-Until \"true\";\nAcquire::Check-Valid-Until \"false\";\n"),
		want: Mirror{Main: aMain, Security: aSecurity, IgnoreExpiry: true},
	}, {
		name: "an expiry option that is commented out",
		host: host("sources.list.d/debian.sources", debian12, "apt.conf.d/99frozen", "# Acquire::Check-Valid-Until \"false\";\n"),
		want: Mirror{Main: aMain, Security: aSecurity},
	}, {
		name: "Ubuntu",
		host: host("sources.list.d/ubuntu.sources", "Types: deb\nURIs: http://archive.example.com/ubuntu/\nSuites: noble noble-updates\nComponents: main universe\n\n"+
			"Types: deb\nURIs: http://security.example.com/ubuntu/\nSuites: noble-security\nComponents: main\n"),
		missing: []string{Main, Security},
	}, {
		name:    "no apt at all",
		host:    fstest.MapFS{},
		missing: []string{Main, Security},
	}, {
		name:    "only main: the security archive is not guessed",
		host:    host("sources.list", "deb "+aMain+" trixie main\n"),
		missing: []string{Security},
	}, {
		name:    "disabled",
		host:    host("sources.list.d/debian.sources", strings.ReplaceAll(debian12, "Types: deb", "Enabled: no\nTypes: deb")),
		missing: []string{Main, Security},
	}, {
		name: "a broken file beside a good one",
		host: host("sources.list.d/debian.sources", debian12, "sources.list.d/a.sources", "\x00 nonsense\n:", "sources.list.d/b.list", "deb\ndeb [\n"),
		want: Mirror{Main: aMain, Security: aSecurity},
	}} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := FromAPT(tc.host)
			var none *NoMirrorError
			if tc.missing != nil {
				if !errors.As(err, &none) || !cmp.Equal(none.Missing, tc.missing) {
					t.Fatalf("got %v, %v; want a NoMirrorError for %v", got, err, tc.missing)
				}
				for _, kind := range tc.missing {
					if !strings.Contains(err.Error(), mirrorHelp[kind]) {
						t.Errorf("got %q, want the flag for %s in it", err, kind)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("mirror (-want +got):\n%s", d)
			}
		})
	}
}

func TestFindMirrorFlags(t *testing.T) {
	root := host("sources.list.d/debian.sources", debian12, "apt.conf.d/99frozen", "Acquire::Check-Valid-Until \"false\";\n")
	for _, tc := range []struct {
		name, main, security string
		want                 Mirror
		err                  string
	}{
		{name: "flags win", main: "https://a.example.org/debian/", security: "https://b.example.org/s", want: Mirror{Main: "https://a.example.org/debian", Security: "https://b.example.org/s"}},
		{name: "the rest from the host", main: "https://a.example.org/debian", want: Mirror{Main: "https://a.example.org/debian", Security: aSecurity}},
		{name: "no URL", main: "a.example.org/debian", err: "give --mirror URL"},
		{name: "wrong scheme", security: "ftp://a.example.org/debian", err: "give --security-mirror URL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := FindMirror(tc.main, tc.security, root)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got %v, want an error with %q", err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
		})
	}
}

func FuzzAPTSources(f *testing.F) {
	f.Add([]byte(debian12), []byte("deb [arch=amd64] "+aMain+" trixie main\n"), []byte(aMain+"\tpriority:1\n"))
	f.Add([]byte("Types: deb\nURIs: mirror+file:/m\nSuites: trixie trixie-security\nComponents: main\n"), []byte("deb cdrom:[x y]/ trixie main"), []byte("\n#\n"))
	f.Fuzz(func(t *testing.T, sources, list, mirrors []byte) {
		root := fstest.MapFS{
			"etc/apt/sources.list":             {Data: list},
			"etc/apt/sources.list.d/a.sources": {Data: sources},
			"m":                                {Data: mirrors},
		}
		m, err := FromAPT(root)
		if err == nil && (!isHTTP(m.Main) || !isHTTP(m.Security)) {
			t.Errorf("got %+v, want http URLs", m)
		}
	})
}
