package site

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestMinimalGetsDefaults(t *testing.T) {
	p, err := Parse("minimal.yaml", read(t, "testdata/minimal.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	want := &Profile{
		Version: 1,
		Site:    "shop-17",
		Network: Network{Hostname: "shop-17"},
		Broker: Broker{Listen: ":9092", AutoCreate: &yes, DiskShare: "80%",
			Security: Security{TrustBox: &yes}},
		Console: Console{Listen: ":8080"},
		Update:  Update{Auto: "prepare", Zone: "UTC", TrialMinutes: 10, SettleSeconds: 60, Share: &yes},
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("profile (-want +got):\n%s", diff)
	}
}

func TestInterfaceDefaults(t *testing.T) {
	tests := []struct {
		addresses string
		dhcp4     bool
	}{
		{"", true},
		{"addresses: [192.0.2.1/24]", false},
		{"addresses: ['2001:db8::1/64']", true},
		{"{dhcp4: true, addresses: [192.0.2.1/24]}", true},
	}
	for _, tt := range tests {
		fields := strings.Trim(tt.addresses, "{}")
		in := "version: 1\nsite: a\nnetwork: {interfaces: [{match: eth0, " + fields + "}]}\n"
		p, err := Parse("f", []byte(in))
		if err != nil {
			t.Fatal(err)
		}
		i := p.Network.Interfaces[0]
		if *i.DHCP4 != tt.dhcp4 || !*i.RA {
			t.Errorf("%s: got dhcp4 %v, ra %v; want %v, true", fields, *i.DHCP4, *i.RA, tt.dhcp4)
		}
	}
}

// The default profile and every good file survive Marshal and Parse, and a
// second Marshal gives the same bytes.
func TestRoundTrip(t *testing.T) {
	check := func(name string, p *Profile) {
		t.Run(name, func(t *testing.T) { roundTrip(t, p) })
	}
	check("default", Default())
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		if strings.HasSuffix(file, ".bad.yaml") {
			continue
		}
		p, err := Parse(file, read(t, file))
		if err != nil {
			t.Fatal(err)
		}
		check(filepath.Base(file), p)
	}
}

func roundTrip(t *testing.T, p *Profile) {
	t.Helper()
	first, err := Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("again", first)
	if err != nil {
		t.Fatalf("what Marshal wrote is refused: %v\n%s", err, first)
	}
	if diff := cmp.Diff(p, again); diff != "" {
		t.Fatalf("profile after a round trip (-want +got):\n%s\n%s", diff, first)
	}
	second, err := Marshal(again)
	if err != nil || string(second) != string(first) {
		t.Fatalf("second Marshal differs (%v):\n%s\nfirst:\n%s", err, second, first)
	}
}

// FuzzParse: no input panics, and what is accepted round-trips.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse("f", data)
		if (p == nil) == (err == nil) {
			t.Fatalf("got profile %v and error %v", p, err)
		}
		if err == nil {
			roundTrip(t, p)
		}
	})
}

// FuzzText: a text that Parse accepts in a quoted form comes back from
// Marshal as it was, whatever it looks like to YAML.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", " a ", "yes", "null", "~", "1e3", "0x1F", "#", "- a", "a: b", "a\n b\n", "\n", "'", `"`, "\\", "é\u2028", "|", "{a}", "2001-01-01", "<<"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := Default()
		p.Description = s
		out, err := Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if strings.IndexFunc(s, unicode.IsControl) >= 0 || !utf8.ValidString(s) {
			return // cannot come from Parse on one line
		}
		again, err := Parse("f", out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if again.Description != s {
			t.Fatalf("got %q, want %q\n%s", again.Description, s, out)
		}
	})
}
