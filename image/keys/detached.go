package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Detached is a key's signature of a message, by the scheme that TUF has for
// the key.
type Detached struct {
	KeyID string
	Sig   []byte
}

// SignMessage signs a message by the keys of a role: as many as the newest
// root's threshold, or it is an error, and of older roots those that are at
// hand, so that a box of an older image believes it too. What is signed says of
// itself that it is no update metadata.
func (f *Folder) SignMessage(role string, message []byte) ([]Detached, error) {
	roots, err := f.Roots()
	if err != nil {
		return nil, err
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("%s holds no update keys; wayside keys init makes them", f.dir)
	}
	all, err := f.tufKeys()
	if err != nil {
		return nil, err
	}
	last := roots[len(roots)-1].Signed.Roles[role]
	var signed []Detached
	var missing []error
	good := 0
	for _, k := range all {
		wanted := slices.ContainsFunc(roots, func(r *Root) bool { return slices.Contains(r.Signed.Roles[role].KeyIDs, k.id) })
		current := slices.Contains(last.KeyIDs, k.id)
		if !wanted || current && good >= last.Threshold {
			continue
		}
		sig, err := f.signWith(k, message)
		if err != nil && current && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err != nil {
			missing = append(missing, err)
			continue
		}
		signed = append(signed, Detached{k.id, sig})
		if current {
			good++
		}
	}
	if good < last.Threshold {
		return nil, fmt.Errorf("sign as %s: %d signatures are wanted, got %d: %w", role, last.Threshold, good, errors.Join(missing...))
	}
	return signed, nil
}
