package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/image/debian"
)

func tool(t *testing.T, name string) hostTool {
	t.Helper()
	for _, h := range hostTools {
		if h.name == name {
			return h
		}
	}
	t.Fatalf("no tool %s in the table", name)
	return hostTool{}
}

func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name, path, version, want string
	}{
		{"qemu-system-x86_64", "", "", "missing"},
		{"qemu-system-x86_64", "/usr/bin/q", "7.2.22", "too old"},
		{"qemu-system-x86_64", "/usr/bin/q", "10.0.2", "ok"},
		{"qemu-system-x86_64", "/usr/bin/q", "", "too old"},
		{"sgdisk", "/usr/sbin/sgdisk", "", "ok"},
		{"java", "/usr/bin/java", "1.8.0", "too old"},
	} {
		if got := judge(tool(t, tt.name), tt.path, tt.version).State; got != tt.want {
			t.Errorf("%s %q at %q: got %s, want %s", tt.name, tt.version, tt.path, got, tt.want)
		}
	}
}

func TestPrintedVersion(t *testing.T) {
	for out, want := range map[string]string{
		"QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)":                           "10.0.2",
		"Picked up JAVA_TOOL_OPTIONS: -Xmx2g\nopenjdk version \"17.0.16\" 2025-07-15\n": "17.0.16",
		"no such thing": "",
	} {
		if got := printedVersion(out); got != want {
			t.Errorf("%q: got %q, want %q", out, got, want)
		}
	}
}

func TestMajor(t *testing.T) {
	for version, want := range map[string]int{
		"1:10.0.2+ds-2+deb13u1~bpo12+1": 10, "1:7.2+dfsg-7": 7, "21": 21, "17.0.2": 17, "": 0, "x": 0,
	} {
		if got := major(version); got != want {
			t.Errorf("%q: got %d, want %d", version, got, want)
		}
	}
}

// fakeApt is a host's apt; the mirror is not one that exists.
func fakeApt(distribution, suites string, candidates map[string]string) aptFacts {
	return aptFacts{
		OS:         hostOS{Distribution: distribution, Pretty: strings.ToUpper(distribution)},
		Suites:     suites,
		Candidates: candidates,
		Mirror:     debian.Mirror{Main: "http://mirror.test/debian"},
	}
}

func TestPlan(t *testing.T) {
	lacking := func(names ...string) []toolStatus {
		all := []toolStatus{judge(tool(t, "e2fsck"), "/usr/sbin/e2fsck", "")}
		for _, n := range names {
			all = append(all, judge(tool(t, n), "", ""))
		}
		return all
	}
	update := "env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 update"
	install := "env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "
	bookworm := map[string]string{"qemu-system-x86": "1:7.2+dfsg-7", "qemu-utils": "1:7.2+dfsg-7", "kcat": "1.7.1", "openjdk-17-jdk-headless": "17.0.16+8-1"}
	stanza := "write " + backportsSource
	for name, tt := range map[string]struct {
		tools []toolStatus
		apt   aptFacts
		want  []string
	}{
		"everything is there": {lacking(), fakeApt("debian 12", "", bookworm), nil},
		"debian 12 has too old a QEMU": {
			lacking("qemu-system-x86_64", "qemu-img", "qemu-io", "kcat"), fakeApt("debian 12", "Suites: bookworm", bookworm),
			[]string{stanza, update, install + "-t bookworm-backports qemu-system-x86 qemu-utils", install + "kcat"},
		},
		"debian 12 with backports": {
			lacking("qemu-system-x86_64"), fakeApt("debian 12", "Suites: bookworm bookworm-backports", bookworm),
			[]string{update, install + "-t bookworm-backports qemu-system-x86"},
		},
		"debian 12 with empty lists": {
			lacking("qemu-system-x86_64", "java"), fakeApt("debian 12", "", nil),
			[]string{stanza, update, install + "-t bookworm-backports qemu-system-x86", install + "default-jdk-headless"},
		},
		"debian 13": {
			lacking("qemu-system-x86_64", "qemu-img"), fakeApt("debian 13", "", map[string]string{"qemu-system-x86": "1:10.0.3", "qemu-utils": "1:10.0.3"}),
			[]string{update, install + "qemu-system-x86 qemu-utils"},
		},
		"the newest java that apt knows": {
			lacking("java"), fakeApt("debian 12", "", bookworm), []string{update, install + "openjdk-17-jdk-headless"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			steps, err := plan(tt.tools, tt.apt)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range steps {
				if s.Write != "" {
					got = append(got, "write "+s.Write)
				} else {
					got = append(got, strings.Join(s.Args, " "))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanRefusesADistributionThatIsTooOld(t *testing.T) {
	tools := []toolStatus{judge(tool(t, "qemu-system-x86_64"), "", "")}
	_, err := plan(tools, fakeApt("ubuntu 24.04", "", map[string]string{"qemu-system-x86": "1:8.2.2+ds-0ubuntu1"}))
	if err == nil || !strings.Contains(err.Error(), "UBUNTU 24.04 offers qemu-system-x86 1:8.2.2+ds-0ubuntu1, but 10 or later is needed") {
		t.Errorf("got error %v, want one that names distribution, version and need", err)
	}
}

func TestPlanNeedsTheMirrorForBackports(t *testing.T) {
	apt := fakeApt("debian 12", "", nil)
	apt.MirrorErr = &debian.NoMirrorError{Missing: []string{"main"}}
	if _, err := plan([]toolStatus{judge(tool(t, "qemu-img"), "", "")}, apt); err == nil {
		t.Error("no mirror: got no error")
	}
}

func TestShellLine(t *testing.T) {
	steps := []setupStep{
		{Write: "/etc/x", Content: "a\nb: 'c'\n"},
		{Args: []string{"apt-get", "update"}, MayFail: true},
		{Args: []string{"apt-get", "install", "x"}},
	}
	want := `printf %b 'a\nb: '\''c'\''\n' | sudo tee /etc/x >/dev/null && sudo apt-get update ; sudo apt-get install x`
	if got := shellLine(steps, []string{"sudo", "-n"}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestReadHost(t *testing.T) {
	root := fstest.MapFS{
		"etc/os-release":                      {Data: []byte("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n")},
		"etc/apt/sources.list":                {Data: []byte("# deb x bookworm-backports main\ndeb http://mirror.test/debian bookworm main\n")},
		"etc/apt/sources.list.d/more.sources": {Data: []byte("Types: deb\nSuites: other\n")},
	}
	want := hostOS{Distribution: "debian 12", Pretty: "Debian GNU/Linux 12 (bookworm)"}
	if diff := cmp.Diff(want, readHostOS(root)); diff != "" {
		t.Errorf("os-release (-want +got):\n%s", diff)
	}
	suites := readSuites(root)
	if strings.Contains(suites, "backports") || !strings.Contains(suites, "Suites: other") {
		t.Errorf("source lists: got %q, want them without comments", suites)
	}
}

func TestParsePolicy(t *testing.T) {
	out := "qemu-system-x86:\n  Installed: (none)\n  Candidate: 1:7.2+dfsg-7\n  Version table:\n     1:7.2+dfsg-7 500\nmaven:\n  Installed: (none)\n  Candidate: (none)\n"
	want := map[string]string{"qemu-system-x86": "1:7.2+dfsg-7"}
	if diff := cmp.Diff(want, parsePolicy([]byte(out))); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
}
