package files

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/waysideos/wayside/services/connect"
)

// position is how far all files were read. As it is committed: JSON, format 1.
type position struct {
	Version int     `json:"version"`
	Files   []*mark `json:"files"`
	forgot  bool    // by the last match
}

// mark is how far one file was read, and how to know it again when it was
// renamed, or when another one has its name.
type mark struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Skip   bool   `json:"skip,omitempty"` // the rest of a record that is too long
	// Print is the SHA-256 of the first Printed bytes, cut to 8.
	Print   string `json:"print,omitempty"`
	Printed int64  `json:"printed,omitempty"`
}

// printBytes of a file tell it from others. Logs begin with a time.
const printBytes = 1024

func parsePosition(data []byte) (*position, error) {
	p := &position{Version: 1}
	if err := connect.ParsePosition(data, p, &p.Version); err != nil {
		return nil, err // going on from nothing would record every file anew
	}
	return p, nil
}

func (p *position) marshal() ([]byte, error) { return json.Marshal(p) }

// match returns the mark of every file: that of its name if it still is that
// file, else that of the one that was renamed to it, else a new one. Only long
// files are known again after a rename: two short ones may well be the same,
// and reading one twice is better than not reading the other.
func (p *position) match(st store, all []file) (map[string]*mark, error) {
	byName := map[string]*mark{}
	for _, m := range p.Files {
		byName[m.Name] = m
	}
	found := map[string]*mark{}
	claimed := map[*mark]bool{}
	for _, f := range all {
		if m := byName[f.name]; m != nil {
			same, err := m.is(st, f)
			if err != nil {
				return nil, err
			}
			if same {
				found[f.name], claimed[m] = m, true
			}
		}
	}
	for _, f := range all {
		if found[f.name] != nil {
			continue
		}
		for _, m := range p.Files {
			if claimed[m] || m.Printed < printBytes {
				continue
			}
			same, err := m.is(st, f)
			if err != nil {
				return nil, err
			}
			if same {
				m.Name, found[f.name], claimed[m] = f.name, m, true
				break
			}
		}
		if found[f.name] == nil {
			found[f.name] = &mark{Name: f.name}
		}
	}
	p.forgot = len(claimed) < len(p.Files)
	p.Files = p.Files[:0]
	for _, f := range all { // what is not there any more is forgotten
		p.Files = append(p.Files, found[f.name])
	}
	return found, nil
}

// is says whether f is the file that was marked.
func (m *mark) is(st store, f file) (bool, error) {
	if m.Printed > f.size || m.Offset > f.size {
		return false, nil
	}
	if m.Printed == 0 {
		return true, nil
	}
	print, err := fingerprint(st, f.name, m.Printed)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return m.Name == f.name, nil // reading it will say what is wrong
	}
	return print == m.Print, err
}

// recognise renews the print while the file is shorter than it could be.
func (m *mark) recognise(st store, f file) error {
	n := min(m.Offset, printBytes)
	if n == m.Printed {
		return nil
	}
	print, err := fingerprint(st, f.name, n)
	if err != nil {
		return err
	}
	m.Print, m.Printed = print, n
	return nil
}

func fingerprint(st store, name string, n int64) (string, error) {
	in, err := st.openAt(name, 0)
	if err != nil {
		return "", err
	}
	defer in.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, in, n); err != nil {
		return "", fmt.Errorf("read the first %d bytes: %w", n, err)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}
