package publish

import (
	"slices"

	"github.com/waysideos/wayside/image/release"
)

// patched is how many releases of a board, the newest ones, keep their
// patches: a box takes an older one only when those are not for it, and then
// fetches by ranges what a patch would have spared.
const patched = 3

// Tidy bounds the list that every box reads whole. Of each board that a release
// was added for, the newest keep ones stay (0 for all), those that boxes far
// behind need on their way to the newest, and those that boxes may go back to.
// It says which do not; boxes that run them keep them.
func (r *Repo) Tidy(keep int) (expired []Entry, err error) {
	all, err := r.Releases()
	if err != nil {
		return nil, err
	}
	for board := range r.added {
		of := slices.DeleteFunc(slices.Clone(all), func(e Entry) bool { return e.Board != board })
		way := onTheWay(of)
		for i, e := range of {
			if keep > 0 && i >= keep && !way[e.Version] && !e.Downgrade {
				r.drop(e, func(string) bool { return true })
				expired = append(expired, e)
			} else if i >= patched {
				r.drop(e, release.IsPatch)
			}
		}
	}
	return expired, nil
}

// drop takes files of a release out of the list.
func (r *Repo) drop(e Entry, which func(file string) bool) {
	for file := range e.Files {
		if which(file) {
			delete(r.targets.Signed.Targets, e.Path(file))
			r.changed = true
		}
	}
}

// onTheWay are the versions, of one board and newest first, that a box takes
// which begins below all of them: each time the newest that may be installed
// from where it is. A box that begins further up takes the same ones from there:
// what may be installed from a lower counter may be from a higher. Where nothing
// may be installed, the way goes on from the lowest counter from which something
// may: there are boxes there that were never offered what they run.
func onTheWay(releases []Entry) map[string]bool {
	way, at := map[string]bool{}, uint64(0)
	for {
		next, stuck := uint64(0), true // the lowest counter that leads on
		i := slices.IndexFunc(releases, func(e Entry) bool {
			if e.Counter <= at {
				return false
			}
			if stuck || e.MinCounter < next {
				next, stuck = e.MinCounter, false
			}
			return e.MinCounter <= at
		})
		switch {
		case i >= 0:
			way[releases[i].Version], at = true, releases[i].Counter
		case stuck:
			return way
		default:
			at = next
		}
	}
}
