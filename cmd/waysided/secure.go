package main

import (
	"github.com/waysideos/wayside/services/broker"
	"github.com/waysideos/wayside/services/broker/auth"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/site"
)

// secure adds the profile's listeners and access rules. A listener that cannot
// be opened is a problem to be seen, and not the end of the others: no
// profile takes a site down.
func secure(cfg *broker.Config, p site.Broker, secrets string) {
	if s := p.Security; s.Authorizer {
		cfg.Access = &auth.Policy{SuperUsers: s.SuperUsers, AllowIfNone: s.AllowNoACL}
		if *s.TrustBox {
			cfg.Access.SuperUsers = append([]string{auth.Box}, s.SuperUsers...)
			for i, ln := range cfg.Listeners {
				cfg.Listeners[i] = broker.TrustBox(ln)
			}
		}
	}
	for _, l := range p.Listeners {
		ln, err := broker.Listen(l, secrets, cfg.Log)
		if err != nil {
			cfg.Log.Error("open a listener of the site profile", "err", err)
			cfg.Problems = append(cfg.Problems, manifest.Fact{Name: "listener " + l.Name + " is not open", Value: err.Error()})
			continue
		}
		cfg.Log.Info("listening", "listener", l.Name, "address", ln.Addr().String())
		cfg.Listeners = append(cfg.Listeners, ln)
	}
}
