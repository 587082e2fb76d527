package debian

import (
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"
)

func TestArchiveKeys(t *testing.T) {
	keys, err := ArchiveKeys()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("keys/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(keys) != 3 {
		t.Errorf("got %d keys, want 3", len(keys))
	}
	for _, key := range keys {
		if key.PrivateKey != nil {
			t.Error("a private key is committed")
		}
		fingerprint := strings.ToUpper(hex.EncodeToString(key.PrimaryKey.Fingerprint))
		if !strings.Contains(string(readme), fingerprint) {
			t.Errorf("keys/README.md does not name %s", fingerprint)
		}
	}
}

func TestParseReleaseErrors(t *testing.T) {
	good := "Codename: trixie\nDate: Sun, 01 Mar 2026 11:00:00 UTC\nSHA256:\n " + strings.Repeat("ab", 32) + " 12 main/binary-amd64/Packages.xz\n"
	r, err := parseRelease([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC); !r.date.Equal(want) || !r.validUntil.IsZero() || r.byHash {
		t.Errorf("got %+v", r)
	}
	for name, tc := range map[string]struct{ old, new, err string }{
		"empty":     {good, "", "read release"},
		"no date":   {"Sun, 01 Mar", "32 Mar", "Date"},
		"expiry":    {"SHA256", "Valid-Until: soon\nSHA256", "Valid-Until"},
		"no files":  {" " + strings.Repeat("ab", 32), "X: ", "names no files"},
		"bad hash":  {"abab", "xyab", "hash size path"},
		"bad size":  {" 12 ", " -1 ", "has no size"},
		"too short": {" 12 main/binary-amd64/Packages.xz", "", "hash size path"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseRelease([]byte(strings.Replace(good, tc.old, tc.new, 1))); err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %v, want an error with %q", err, tc.err)
			}
		})
	}
}

func FuzzOpenRelease(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nCodename: trixie\n-----BEGIN PGP SIGNATURE-----\n\nwsB=\n=aaaa\n-----END PGP SIGNATURE-----\n"))
	keys, err := ArchiveKeys()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := openRelease(data, keys, time.Unix(1_790_000_000, 0)); err == nil {
			t.Errorf("a file was believed that no key signed: %+v", r)
		}
		parseRelease(data)
	})
}
