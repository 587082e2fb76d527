package debian_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/debian"
	"github.com/waysideos/wayside/image/debian/debiantest"
)

const (
	stable   = "trixie"
	updates  = "trixie-updates"
	security = "trixie-security"
)

// kernels offers a kernel with its meta-package in main and a newer one in the
// security archive.
func kernels(t *testing.T, a *debiantest.Archive) {
	t.Helper()
	for suite, v := range map[string]string{stable: "6.12.9-1", security: "6.12.10-1"} {
		name := "linux-image-" + strings.TrimSuffix(v, "-1") + "+deb13-amd64"
		a.Add(debiantest.Package{Suite: suite, Arch: "amd64", Name: name, Version: v,
			Deb: debiantest.Deb(t, ".xz", debiantest.File{Name: "./boot/vmlinuz", Content: v})},
			debiantest.Package{Suite: suite, Arch: "amd64", Name: "linux-image-amd64", Version: v,
				Depends: "kmod, " + name + " (= " + v + ")", Deb: []byte("meta")})
	}
}

func TestResolve(t *testing.T) {
	a := debiantest.New(t)
	kernels(t, a)
	for suite, v := range map[string]string{stable: "1.0-1", updates: "1.0-1+deb13u1", security: "1.0-1~rc1"} {
		a.Add(debiantest.Package{Suite: suite, Arch: "amd64", Name: "tool", Version: v, Deb: []byte(v)})
	}
	a.Add(debiantest.Package{Suite: stable, Arch: "amd64", Name: "firmware-tool", Version: "2", Firmware: true, Deb: []byte("firmware")})
	a.Publish(t)
	r := a.Open(t)
	lock, err := r.Resolve(context.Background(), []string{"linux-image-amd64", "tool", "firmware-tool"}, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	type short struct{ Name, Version, Archive string }
	got := map[string]short{}
	for _, p := range lock.All() {
		got[p.Request] = short{p.Name, p.Version, p.Archive}
	}
	want := map[string]short{
		"linux-image-amd64": {"linux-image-6.12.10+deb13-amd64", "6.12.10-1", debian.Security},
		"tool":              {"tool", "1.0-1+deb13u1", debian.Main},
		"firmware-tool":     {"firmware-tool", "2", debian.Main},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("resolved (-want +got):\n%s", d)
	}
	if !lock.Date.Equal(a.Date) {
		t.Errorf("got date %v, want %v", lock.Date, a.Date)
	}
	if _, err := lock.Encode(); err != nil {
		t.Error(err)
	}
	if _, err := r.Resolve(context.Background(), []string{"absent"}, "arm64"); err == nil || !strings.Contains(err.Error(), "resolve package absent for arm64") {
		t.Errorf("got %v, want an error that names package and architecture", err)
	}
}

func TestMetaPackageWithoutItsKernel(t *testing.T) {
	a := debiantest.New(t)
	a.Add(debiantest.Package{Suite: stable, Arch: "amd64", Name: "linux-image-amd64", Version: "6-1",
		Depends: "linux-image-6-amd64 (= 6-1)", Deb: []byte("meta")})
	a.Publish(t)
	_, err := a.Open(t).Resolve(context.Background(), []string{"linux-image-amd64"}, "amd64")
	if err == nil || !strings.Contains(err.Error(), "linux-image-6-amd64 6-1, which no index holds") {
		t.Errorf("got %v", err)
	}
}

// TestChain breaks the chain from signature to index at each link.
func TestChain(t *testing.T) {
	inRelease := "/debian/dists/trixie/InRelease"
	index := "/debian/dists/trixie/main/binary-amd64/Packages.xz"
	for _, tc := range []struct {
		name     string
		spoil    func(t *testing.T, a *debiantest.Archive)
		is       error  // errors.Is
		contains string // in the text
	}{{
		name: "InRelease changed inside the signature",
		spoil: func(t *testing.T, a *debiantest.Archive) {
			_, data := a.Get(t, inRelease)
			a.Put(inRelease, []byte(strings.Replace(string(data), "Origin: Test", "Origin: Evil", 1)))
		},
		is: debian.ErrSignature,
	}, {
		name:  "InRelease not signed",
		spoil: func(t *testing.T, a *debiantest.Archive) { a.Put(inRelease, []byte("Codename: trixie\n")) },
		is:    debian.ErrSignature,
	}, {
		name: "signed by another key",
		spoil: func(t *testing.T, a *debiantest.Archive) {
			a.Keys = debian.Keys{debiantest.NewKey(t, a.Date)}
		},
		is: debian.ErrSignature,
	}, {
		name: "the real archive's keys do not believe it",
		spoil: func(t *testing.T, a *debiantest.Archive) {
			a.Keys = nil // the default
		},
		is: debian.ErrSignature,
	}, {
		name: "text put before the signed part",
		spoil: func(t *testing.T, a *debiantest.Archive) {
			_, data := a.Get(t, index)
			_, signed := a.Get(t, inRelease)
			a.Put(index, append(data, 0))
			a.Put(inRelease, append([]byte("Codename: trixie\nSHA256:\n 00 1 main/binary-amd64/Packages.xz\n\n"), signed...))
		},
		contains: "", // believed is only what is signed: all is well
	}, {
		name: "another suite's InRelease",
		spoil: func(t *testing.T, a *debiantest.Archive) {
			_, data := a.Get(t, "/trixie-updates/InRelease")
			a.Put(inRelease, data)
		},
		contains: `signed for "trixie-updates", not for "trixie"`,
	}, {
		name: "index changed",
		spoil: func(t *testing.T, a *debiantest.Archive) {
			_, data := a.Get(t, index)
			data[len(data)/2] ^= 1 // the by-hash path serves the same bytes
		},
		contains: "Packages.xz of trixie has wrong content",
	}, {
		name: "index longer than signed",
		spoil: func(t *testing.T, a *debiantest.Archive) {
			a.Hook(func(w httpWriter, r *httpRequest, content []byte) bool {
				if strings.Contains(r.URL.Path, "by-hash") {
					w.Write(append(content, make([]byte, 100)...))
					return true
				}
				return false
			})
		},
		contains: "more than the expected",
	}, {
		name: "no InRelease",
		spoil: func(t *testing.T, a *debiantest.Archive) {
			a.Put("/debian-security/dists/trixie-security/InRelease", nil)
		},
		contains: "read index of trixie-security for amd64: fetch",
	}} {
		t.Run(tc.name, func(t *testing.T) {
			a := debiantest.New(t)
			a.Add(debiantest.Package{Suite: stable, Arch: "amd64", Name: "tool", Version: "1", Deb: []byte("tool")})
			a.Publish(t)
			tc.spoil(t, a)
			r := a.Open(t)
			debian.NoWait(r)
			_, err := r.Resolve(context.Background(), []string{"tool"}, "amd64")
			switch {
			case tc.is == nil && tc.contains == "":
				if err != nil {
					t.Errorf("got %v, want none", err)
				}
			case tc.is != nil && !errors.Is(err, tc.is):
				t.Errorf("got %v, want %v", err, tc.is)
			case err == nil || !strings.Contains(err.Error(), tc.contains):
				t.Errorf("got %v, want an error with %q", err, tc.contains)
			}
		})
	}
}

func TestByHashMissing(t *testing.T) {
	a := debiantest.New(t)
	a.Add(debiantest.Package{Suite: stable, Arch: "amd64", Name: "tool", Version: "1", Deb: []byte("tool")})
	a.Publish(t)
	a.Hook(func(w httpWriter, r *httpRequest, _ []byte) bool {
		if strings.Contains(r.URL.Path, "by-hash") {
			w.WriteHeader(404)
			return true
		}
		return false
	})
	if _, err := a.Open(t).Resolve(context.Background(), []string{"tool"}, "amd64"); err != nil {
		t.Errorf("the plain name was not tried: %v", err)
	}
}

func TestExpired(t *testing.T) {
	for _, tc := range []struct {
		name    string
		after   time.Duration // Now after ValidUntil
		ignore  bool
		expired bool
	}{
		{name: "the last second", after: 0},
		{name: "a second late", after: time.Second, expired: true},
		{name: "late, and the host says never mind", after: time.Hour, ignore: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := debiantest.New(t)
			a.Add(debiantest.Package{Suite: stable, Arch: "amd64", Name: "tool", Version: "1", Deb: []byte("tool")})
			a.Publish(t)
			a.Now = a.ValidUntil.Add(tc.after)
			a.Mirror.IgnoreExpiry = tc.ignore
			_, err := a.Open(t).Resolve(context.Background(), []string{"tool"}, "amd64")
			var expired *debian.ExpiredError
			if got := errors.As(err, &expired); got != tc.expired || !got && err != nil {
				t.Errorf("got %v, want expired: %v", err, tc.expired)
			}
		})
	}
}

func TestNewArchiveNeedsTime(t *testing.T) {
	a := debiantest.New(t)
	c := a.Config()
	c.Now = time.Time{}
	if _, err := debian.NewArchive(c); err == nil {
		t.Error("an archive was opened without a time to check expiry against")
	}
}
