// Package claim is the small signed file that makes a box somebody's: its
// name, its variables and its secrets, for one box out of many that are flashed
// from one image and one site profile. The format is docs/formats/claim.md.
package claim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/waysideos/wayside/services/site"
)

// MaxSize is the largest file that is read, in bytes.
const MaxSize = 1 << 20

// version of the format.
const version = 1

// Claim is what a file says once its signature was checked.
type Claim struct {
	Version int    `json:"version"`
	Name    string `json:"name"` // takes the place of the profile's site
	// Issued orders the claims of a box: a later one takes an earlier one's
	// place, never the other way round. A box does not compare it with its clock.
	Issued time.Time `json:"issued"`
	// Expires is when a box no longer takes it over. What was taken stays.
	Expires time.Time `json:"expires"`
	// Serial and MAC bind it to hardware, one or both; neither is any box.
	Serial    string            `json:"serial,omitempty"`
	MAC       string            `json:"mac,omitempty"` // lower case, with colons
	Variables map[string]string `json:"variables,omitempty"`
	Secrets   map[string][]byte `json:"secrets,omitempty"` // files by name
}

// Own is what the claim puts into a site profile.
func (c *Claim) Own() site.Own {
	if c == nil {
		return site.Own{}
	}
	return site.Own{Site: c.Name, Variables: c.Variables}
}

// Check says what is wrong with a claim, in words that tell nothing of what is
// in its secrets.
func (c *Claim) Check() error {
	if c.Version != version {
		return fmt.Errorf("version %d, this release knows %d", c.Version, version)
	}
	if why := site.SiteName(c.Name); why != "" {
		return fmt.Errorf("name: %s", why)
	}
	switch {
	case c.Issued.IsZero() || c.Expires.IsZero():
		return errors.New("lacks the time when it was issued, or when it expires")
	case !c.Expires.After(c.Issued):
		return fmt.Errorf("expires %s, before it was issued", stamp(c.Expires))
	case len(c.Serial) > 100 || strings.TrimSpace(c.Serial) != c.Serial:
		return errors.New("serial: want at most 100 bytes without blanks around them")
	case c.MAC != "" && !isMAC(c.MAC):
		return errors.New("mac: want an address such as 52:54:00:12:34:56, in lower case")
	case len(c.Secrets) > site.MaxSecrets:
		return fmt.Errorf("%d secrets, the most is %d", len(c.Secrets), site.MaxSecrets)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Variables)) {
		if !site.VariableName(name) {
			return fmt.Errorf("variable %.70q: want a name of lower-case letters, digits, '-' and '_'", name)
		}
		if why := site.VariableValue(c.Variables[name]); why != "" {
			return fmt.Errorf("variable %s: %s", name, why)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Secrets)) {
		if !site.SecretName(name) {
			return fmt.Errorf("secret %.110q: want a file name of letters, digits, '.', '_' and '-', at most %d", name, site.MaxSecretName)
		}
		if n := len(c.Secrets[name]); n == 0 || n > site.MaxSecretSize {
			return fmt.Errorf("secret %s: has %d bytes, want 1 to %d", name, n, site.MaxSecretSize)
		}
	}
	return nil
}

func isMAC(s string) bool {
	mac, err := net.ParseMAC(s)
	return err == nil && len(mac) == 6 && mac.String() == s
}

// Hardware is what a box can be told from others by.
type Hardware struct {
	Serial string   // of the machine; "" if it does not say
	MACs   []string // of its network interfaces, lower case
}

// For says why a claim is not for this box at this time. The clock of a box
// without a battery is at its floor, the latest time that has passed for
// certain: what has expired since is taken. To wait for the network's time
// would be to wait for a network whose passphrase may be in the claim.
func (c *Claim) For(h Hardware, now time.Time) error {
	switch {
	case now.After(c.Expires):
		return fmt.Errorf("it expired %s, and it is %s by the box's clock", stamp(c.Expires), stamp(now))
	case c.Serial != "" && c.Serial != h.Serial:
		return fmt.Errorf("it is for the machine with serial number %q; this one has %q", c.Serial, h.Serial)
	case c.MAC != "" && !slices.Contains(h.MACs, c.MAC):
		return fmt.Errorf("it is for the machine with address %s; this one has %s", c.MAC, strings.Join(h.MACs, ", "))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

// Encode writes what is signed, and refuses what a box would.
func (c *Claim) Encode() ([]byte, error) {
	c.Version = version
	if err := c.Check(); err != nil {
		return nil, err
	}
	return json.Marshal(c)
}

// decode reads a payload. The decoder's own errors are not passed on: they
// quote what they stumble over. A field that is not known may be a condition.
func decode(payload []byte) (*Claim, error) {
	var v struct {
		Version int `json:"version"`
	}
	if json.Unmarshal(payload, &v) == nil && v.Version > version {
		return nil, fmt.Errorf("version %d, this release knows %d", v.Version, version)
	}
	c := &Claim{}
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if dec.Decode(c) != nil {
		return nil, errors.New("what it holds is not readable, or has fields that this release does not know")
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows what it holds")
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	return c, nil
}
