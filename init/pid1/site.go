//go:build linux

package pid1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/profile"
	"github.com/waysideos/wayside/init/slots"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// watchProfile lets the profile be changed from now on.
func watchProfile(_ context.Context, m *Machine) error {
	if m.profile == nil {
		return nil
	}
	m.changer = profile.NewChanger(profile.ChangerConfig{
		State: m.stateFS(), Boot: m.profile, Own: m.claim.Own(), Log: m.Log(),
		Enforce: m.enforce, Kept: m.profileKept,
		Reaches: func(ctx context.Context) bool { return m.network != nil && m.network.Reaches(ctx) },
		Busy: func() string {
			if k := m.trial.Load(); k != nil && k.OnTrial() {
				return "a version is on trial: ask again when that is over"
			}
			return ""
		},
	})
	m.Go("trials of site profiles", m.changer.Run)
	return nil
}

// site is what the API can do with the profile, by verb.
func (m *Machine) site() map[string]func(body []byte) error {
	verbs := map[string]func(c *profile.Changer, body []byte) error{
		"apply": func(c *profile.Changer, body []byte) error {
			return decoded(body, c.Apply)
		},
		"keep": func(c *profile.Changer, _ []byte) error { return c.Keep() },
		"back": func(c *profile.Changer, body []byte) error {
			return decoded(body, func(f manifest.Fail) error { return c.Back(f.Check + ": " + f.Reason) })
		},
	}
	out := map[string]func([]byte) error{}
	for name, do := range verbs {
		out[name] = func(body []byte) error {
			if m.changer == nil {
				return slots.Refusal("this box has started without a profile")
			}
			return do(m.changer, body)
		}
	}
	return out
}

func decoded[T any](body []byte, do func(T) error) error {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return slots.Refusal(fmt.Sprintf("the request is not readable: %v", err))
	}
	return do(v)
}

// enforce has the running box do as r says, which did as was says.
func (m *Machine) enforce(was, r *profile.Result) (renewed, later []string, err error) {
	if m.network == nil || m.services == nil {
		return nil, nil, errors.New("the box has not started whole: restart it")
	}
	if err := writeSite(r); err != nil {
		return nil, nil, err
	}
	if !reflect.DeepEqual(was.Profile.Network, r.Profile.Network) {
		n := m.testNetwork(r.Profile.Network)
		m.network.Reconfigure(n, n.Hostname)
	}
	if err := m.giveSecrets(profile.Renewed(was.Profile, r.Profile), r.Profile); err != nil {
		return nil, nil, err
	}
	m.wantRemovable(r.Profile)
	units, sockets, err := manifest.ReadDir(os.DirFS("/"), layout.RootUnits[1:])
	if err != nil {
		return nil, nil, err
	}
	for _, s := range listenAt(sockets, r.Profile) {
		m.services.Move(s.Name, s.Listen)
	}
	later = profile.NextStart(was.Profile, r.Profile)
	renewed, more := followers(profile.Affected(was.Profile, r.Profile), m.supervised, units, r.Profile)
	for _, name := range renewed {
		m.services.Renew(name)
	}
	return renewed, append(later, more...), nil
}

// followers are the services, of those that a profile affects, to be started
// anew, and what has to wait for the next start of the box: services that are
// not there, and ones that would have nothing to do.
func followers(affected []string, runs func(name string) bool, units []manifest.Unit, p *site.Profile) (renewed, later []string) {
	used := func(name string) bool {
		return !idle(name, p) && slices.ContainsFunc(units, func(u manifest.Unit) bool { return u.Name == name })
	}
	for _, name := range affected {
		switch {
		case name == manifest.UpdaterUser:
			// It judges the trial: see profileKept.
		case runs(name) && used(name):
			renewed = append(renewed, name)
		case runs(name) || used(name):
			later = append(later, "the service "+name)
		}
	}
	return renewed, later
}

// supervised says whether a service runs on this box.
func (m *Machine) supervised(name string) bool {
	return slices.ContainsFunc(m.services.Status(), func(s manifest.Service) bool { return s.Name == name })
}

// profileKept has the updater follow, too.
func (m *Machine) profileKept(was, r *profile.Result) {
	if slices.Contains(profile.Affected(was.Profile, r.Profile), manifest.UpdaterUser) {
		m.services.Renew(manifest.UpdaterUser)
	}
}
