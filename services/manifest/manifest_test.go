package manifest

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the key tables of docs/formats/units.md anew")

const full = `# a comment
[Unit]
Description=Edge broker \
  of the site
After=a.service  b.service
After=
After=c.service
Requires=c.service

; another
[Service]
ExecStart=/usr/bin/waysided broker "--site=two words" '%t/x' a\x20b %%p %N %n
Type=notify
User=broker
Group=site
SupplementaryGroups=one two
Restart=always
RestartSec=500ms
RestartMaxDelaySec=1min 30s
TimeoutStartSec=infinity
TimeoutStopSec=1.5min
WatchdogSec=30
MemoryMax=64M
MemoryHigh=48M
CPUWeight=200
TasksMax=100
StateDirectory=broker
StateDirectoryMode=0700
RuntimeDirectory=broker
RuntimeDirectoryMode=0750
Environment="A=one two" B=%S/broker
LoadCredential=key:/state/%p/key
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_SYS_TIME
NoNewPrivileges=yes
LimitNOFILE=65536
OOMScoreAdjust=-500
Sockets=kafka.socket
`

func TestParseUnit(t *testing.T) {
	got, err := ParseUnit("units/broker.service", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := Unit{
		Name: "broker", File: "units/broker.service", Description: "Edge broker    of the site",
		After: []string{"c"}, Requires: []string{"c"},
		ExecStart: []string{"/usr/bin/waysided", "broker", "--site=two words", "/run/x", "a b", "%p", "broker", "broker.service"},
		Type:      Notify, User: "broker", Group: "site", SupplementaryGroups: []string{"one", "two"},
		Restart: RestartAlways, RestartDelay: 500 * time.Millisecond, RestartMaxDelay: 90 * time.Second,
		TimeoutStart: 0, TimeoutStop: 90 * time.Second, Watchdog: 30 * time.Second,
		MemoryMax: 64 << 20, MemoryHigh: 48 << 20, CPUWeight: 200, TasksMax: 100,
		StateDirectory: []string{"broker"}, StateDirectoryMode: 0o700,
		RuntimeDirectory: []string{"broker"}, RuntimeDirectoryMode: 0o750,
		Environment:         []string{"A=one two", "B=/var/lib/broker"},
		Credentials:         []Credential{{"key", "/state/broker/key"}},
		AmbientCapabilities: []Capability{10}, BoundingSet: []Capability{10, 25}, LimitBounding: true,
		NoNewPrivileges: true, LimitNOFILE: 65536, OOMScoreAdjust: -500, Sockets: []string{"kafka"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unit (-want +got):\n%s", diff)
	}
}

func TestParseUnitDefaults(t *testing.T) {
	got, err := ParseUnit("x.service", []byte("[Service]\nExecStart=/bin/x\nCapabilityBoundingSet=\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := newUnit("x", "x.service")
	want.ExecStart, want.LimitBounding = []string{"/bin/x"}, true
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unit (-want +got):\n%s", diff)
	}
}

func TestParseSocket(t *testing.T) {
	got, err := ParseSocket("u/kafka.socket", []byte(
		"[Socket]\nListenStream=9092\nListenStream=[::1]:80 /run/x.sock\nFileDescriptorName=kafka\nService=broker.service\nSocketGroup=site\nSocketMode=0660\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Socket{Name: "kafka", File: "u/kafka.socket", Listen: []string{"9092", "[::1]:80", "/run/x.sock"},
		FDName: "kafka", Service: "broker", Group: "site", Mode: 0o660}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("socket (-want +got):\n%s", diff)
	}
}

// Errors name file, line, key and what to write instead.
func TestParseUnitErrors(t *testing.T) {
	const head = "[Service]\nExecStart=/bin/x\n"
	for _, tc := range []struct{ text, want string }{
		{head + "MemroyMax=1G\n", "x.service:3: MemroyMax: unknown key in section [Service]; the nearest is MemoryMax"},
		{head + "After=a.service\n", "x.service:3: After: belongs into section [Unit], not [Service]"},
		{head + "[Install]\n", "x.service:3: unknown section [Install]; the nearest is [Unit]"},
		{"[unit]\n", "x.service:1: unknown section [unit]; the nearest is [Unit]"},
		{"ExecStart=/bin/x\n", "x.service:1: stands before the first section"},
		{head + "nonsense\n", "x.service:3: is neither a section, Key=value nor a comment"},
		{head + "[Service] x\n", "x.service:3: a section is written [Name], alone on its line"},
		{head + "Environment=A=1 \\\n# B=2\n", "x.service:4: a comment or an empty line stands inside a continued value"},
		{head + "Environment=A=1 \\", "x.service:3: the last line ends with a backslash, nothing continues it"},
		{head + "# x \\\n", "x.service:3: a comment ends with a backslash"},
		{head + "Description=" + strings.Repeat("x", 3000), "x.service:3: line is longer than 2000 bytes"},
		{head + "User=a\r\n", "x.service: must be UTF-8 text with plain line ends, without carriage return or zero byte"},
		{"[Service]\nUser=a\n", "x.service: ExecStart: is missing"},
		{"[Service]\nExecStart=-/bin/x\n", `x.service:2: ExecStart: must be an absolute path without detours, not "-/bin/x"`},
		{"[Service]\nExecStart=/bin/x $HOME\n", "x.service:2: ExecStart: variables are not replaced, $ is refused"},
		{head + "ExecStart=/bin/y\n", "x.service:3: ExecStart: stands twice; a service has one program"},
		{head + "Type=forking\n", `x.service:3: Type: must be simple or notify, not "forking"`},
		{head + "WatchdogSec=5\n", "x.service: WatchdogSec: needs Type=notify, keepalives come over the same socket"},
		{head + "RestartSec=5 parsecs\n", `x.service:3: RestartSec: time unit "parsecs" is unknown; there are us, ms, s, min, h and d`},
		{head + "RestartSec=soon\n", `x.service:3: RestartSec: time span "soon" is not understood; write "90", "1min 30s" or "infinity"`},
		{head + "MemoryMax=50%\n", `x.service:3: MemoryMax: size "50%" is not understood; write bytes, "64M" or "infinity"`},
		{head + "MemoryMax=9000000000G\n", `x.service:3: MemoryMax: size "9000000000G" is not understood; write bytes, "64M" or "infinity"`},
		{head + "CPUWeight=0\n", `x.service:3: CPUWeight: must be a number from 1 to 10000, not "0"`},
		{head + "NoNewPrivileges=maybe\n", `x.service:3: NoNewPrivileges: must be yes or no, not "maybe"`},
		{head + "StateDirectory=../etc\n", `x.service:3: StateDirectory: must be a relative path without detours, not "../etc"`},
		{head + "StateDirectoryMode=9\n", `x.service:3: StateDirectoryMode: must be an octal mode up to 0777, not "9"`},
		{head + "Environment=A\n", `x.service:3: Environment: must be KEY=value words, not "A"`},
		{head + "Environment=\"A=1\n", `x.service:3: Environment: quote " is not closed`},
		{head + "Environment=A=\\q\n", `x.service:3: Environment: escape \q is unknown; there are \\ \" \' \s \n \t \r and \xHH`},
		{head + "Environment=A=%h\n", "x.service:3: Environment: specifier %h is unknown; there are %%, %n, %N, %p, %t and %S"},
		{head + "LoadCredential=key\n", `x.service:3: LoadCredential: must be ID:/path, not "key"`},
		{head + "LoadCredential=../key:/x\n", `x.service:3: LoadCredential: must be ID:/path, not "../key:/x"`},
		{head + "AmbientCapabilities=CAP_NET_BIND\n", `x.service:3: AmbientCapabilities: capability "CAP_NET_BIND" is unknown; the nearest is CAP_NET_BIND_SERVICE`},
		{head + "AmbientCapabilities=CAP_KILL\n", "x.service: AmbientCapabilities: needs User, root has them anyhow"},
		{head + "User=Broker\n", `x.service:3: User: a user or group is written with a-z, 0-9, - and _, not "Broker"`},
		{head + "[Unit]\nAfter=a\n", `x.service:4: After: "a" must end with .service`},
		{head + "RestartSec=2min\n", "x.service: RestartMaxDelaySec: is 1m0s, below RestartSec of 2m0s"},
	} {
		_, err := ParseUnit("x.service", []byte(tc.text))
		if got := fmt.Sprint(err); got != tc.want {
			t.Errorf("%q:\n got %s\nwant %s", tc.text, got, tc.want)
		}
	}
}

func TestReadDir(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	svc := func(after string) *fstest.MapFile {
		return file("[Unit]\nAfter=" + after + "\n[Service]\nExecStart=/bin/x\n")
	}
	units, sockets, err := ReadDir(fstest.MapFS{
		"u/a.service": svc("z.service"), "u/m.service": svc(""), "u/z.service": svc("m.service"),
		"u/kafka.socket": file("[Socket]\nListenStream=9092\nService=z.service\n"),
		"u/README":       file("not a unit"),
	}, "u")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, u := range units {
		names = append(names, u.Name)
	}
	if diff := cmp.Diff([]string{"m", "z", "a"}, names); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if len(sockets) != 1 || len(units[1].Sockets) != 1 || units[1].Sockets[0] != "kafka" {
		t.Errorf("got sockets %v, of z %v; want kafka in both", sockets, units[1].Sockets)
	}

	for _, tc := range []struct {
		files fstest.MapFS
		want  string
	}{
		{fstest.MapFS{"u/a.service": svc("b.service"), "u/b.service": svc("c.service"), "u/c.service": svc("b.service")},
			"u/b.service: units wait for each other: b after c after b"},
		{fstest.MapFS{"u/a.service": svc("a.service")}, "u/a.service: units wait for each other: a after a"},
		{fstest.MapFS{"u/a.service": svc("b.service")}, "u/a.service: After or Requires names b.service, which no file declares"},
		{fstest.MapFS{"u/a.socket": file("[Socket]\nListenStream=1\n")}, "u/a.socket: is for a.service, which no file declares"},
		{fstest.MapFS{"u/a.socket": file("[Socket]\nListenStream=http\n")},
			`u/a.socket:2: ListenStream: must be a port, address:port or an absolute path, not "http"`},
		{fstest.MapFS{"u/A.service": svc("")}, "u/A.service: a unit's name holds a-z, 0-9, - and _, not 'A'"},
	} {
		_, _, err := ReadDir(tc.files, "u")
		if got := fmt.Sprint(err); got != tc.want {
			t.Errorf("got %s\nwant %s", got, tc.want)
		}
	}
}

// The units that the image ships must be ones that init takes.
func TestBaseUnits(t *testing.T) {
	units, sockets, err := ReadDir(os.DirFS("../../overlays/base/rootfs"), "usr/lib/wayside/units")
	if err != nil {
		t.Fatal(err)
	}
	if len(units) == 0 || len(sockets) == 0 {
		t.Errorf("got %d units and %d sockets, want some", len(units), len(sockets))
	}
}

// The document's tables are those of the code: go test -update writes them.
func TestDocument(t *testing.T) {
	const file = "../../docs/formats/units.md"
	const begin, end = "<!-- keys: written by go test ./services/manifest -update -->\n", "<!-- end of keys -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the marks %q and %q", file, begin, end)
	}
	want := before + begin + keyTable(".service", unitKeys) + keyTable(".socket", socketKeys) + end + after
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("%s is not what the code says; run the test with -update (-want +got):\n%s", file, diff)
	}
}

func keyTable[T any](kind string, table []key[T]) string {
	var b strings.Builder
	section := ""
	for _, k := range table {
		if k.section != section {
			section = k.section
			fmt.Fprintf(&b, "\n### `%s`, section `[%s]`\n\n| key | meaning |\n|---|---|\n", kind, section)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", k.name, k.doc)
	}
	return b.String() + "\n"
}

// Whatever the bytes, the parser ends with a unit that checks or an error
// that names the file.
func FuzzParseUnit(f *testing.F) {
	for _, s := range []string{full, "[Service]\nExecStart=/bin/x\n", "[Service]\nExecStart=/bin/x \\\n  y\n", "[", "[]\n=", "#\\\n",
		"[Service]\nExecStart=/x\n  [Unit]\nAfter=a.service\n", "[Service]\n\nExecStart\n=/x", "[Socket]\nListenStream=1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		u, err := ParseUnit("dir/x.service", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "dir/x.service") {
				t.Errorf("error %q does not name the file", err)
			}
			if strings.Contains(err.Error(), "line by line") {
				t.Errorf("lexer and scanner disagree about %q", text)
			}
		} else if len(u.ExecStart) == 0 || u.ExecStart[0][0] != '/' || u.RestartDelay < 0 || u.MemoryMax < 0 {
			t.Errorf("got %+v from %q", u, text)
		}
		ParseSocket("dir/x.socket", text)
	})
}
