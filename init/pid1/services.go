//go:build linux

package pid1

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/mount"
	"github.com/waysideos/wayside/init/supervise"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// listenAt puts the addresses of the profile in the place of those that the
// socket units were built with. Connectors listen on as many addresses as the
// profile has of them; their socket stays without any, for their unit names it.
func listenAt(sockets []manifest.Socket, p *site.Profile) []manifest.Socket {
	addresses := map[string]string{"kafka": p.Broker.Listen, "http": p.Console.Listen}
	if p.Connect.MQTT != nil {
		addresses["mqtt"] = p.Connect.MQTT.Listen
	}
	for i := range sockets {
		if at := addresses[sockets[i].FDName]; at != "" {
			sockets[i].Listen = []string{strings.TrimPrefix(at, ":")}
		}
		if sockets[i].FDName == "connect" {
			sockets[i].Listen = nil
			for _, h := range p.Connect.HTTP {
				sockets[i].Listen = append(sockets[i].Listen, strings.TrimPrefix(h.Listen, ":"))
			}
		}
	}
	return sockets
}

// idle says whether the profile gives a service nothing to do: it would cost
// memory for nothing.
func idle(service string, p *site.Profile) bool { return service == "wifi" && p.Network.Wifi == nil }

// serviceEnv is the environment of every service.
var serviceEnv = []string{"PATH=/usr/bin:/usr/sbin:/bin:/sbin", "LANG=C.UTF-8", "TZ=UTC"}

// startAhead starts those services that can wait for the rest of the sequence
// while their program is read.
func startAhead(ctx context.Context, m *Machine) error {
	defer close(m.ahead)
	// The reaper lives as long as the process: orphans come at any time.
	m.forever("reaper", func() { m.reaper.Run(context.Background()) })
	if err := m.readServices(); err != nil {
		return err // and again where it counts
	}
	return m.services.StartAhead(ctx)
}

// readServices reads the units of the release.
func (m *Machine) readServices() error {
	units, sockets, err := manifest.ReadDir(os.DirFS("/"), layout.RootUnits[1:])
	if err != nil {
		return err
	}
	cgroups := ""
	if mount.Is(mount.Cgroups) {
		cgroups = mount.Cgroups
	}
	first, each, err := m.testEnv()
	if err != nil {
		m.problem(err.Error())
	}
	m.units, m.sockets = units, sockets
	m.services, err = supervise.New(supervise.Config{
		Units: units, Sockets: sockets, Reaper: m.reaper, CgroupRoot: cgroups, Log: m.Log(), Guard: m.lastly,
		Env: serviceEnv, FirstEnv: first, EachEnv: each, Ready: m.serviceReady,
	})
	return err
}

func startServices(ctx context.Context, m *Machine) error {
	// The step that starts some ahead may have been left behind: whatever it
	// hangs in, it must not go on beside this one.
	if err := m.ahead.wait(ctx); err != nil {
		return fmt.Errorf("wait for what starts services ahead: %w", err)
	}
	if m.services == nil {
		if err := m.readServices(); err != nil {
			return err
		}
	}
	if m.profile != nil {
		for _, s := range listenAt(m.sockets, m.profile.Profile) {
			m.services.Move(s.Name, s.Listen)
		}
		for _, u := range m.units {
			if idle(u.Name, m.profile.Profile) {
				m.services.Leave(u.Name)
			}
		}
	}
	m.forever("services", func() { m.served <- m.services.Run(m.serving) })
	m.Go("trial window", m.runTrial)
	return nil
}
