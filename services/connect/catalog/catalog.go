// Package catalog is the table of all connectors: which protocol of the site
// profile is whose. Nothing else imports them all.
package catalog

import (
	"fmt"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/diode"
	"github.com/waysideos/wayside/services/connect/http"
	"github.com/waysideos/wayside/services/connect/opcua"
	"github.com/waysideos/wayside/services/site"
)

// protocols makes the connector of an entry of the profile. The names are the
// fields of site.Connect.
var protocols = map[string]func(site.Instance) (connect.Connector, error){
	"diode_receive": of(diode.NewReceiver),
	"diode_send":    of(diode.NewSender),
	"http":          of(http.New),
	"opcua":         of(opcua.New),
}

// of turns a constructor with a type of its own into an entry of protocols.
func of[T any](make func(T) (connect.Connector, error)) func(site.Instance) (connect.Connector, error) {
	return func(i site.Instance) (connect.Connector, error) { return make(*any(i).(*T)) }
}

// Instances makes every connector of a profile, and only the one of that name
// if name is not empty.
func Instances(p *site.Profile, name string) ([]connect.Instance, error) {
	var all []connect.Instance
	for _, l := range p.Connect.Instances() {
		common := l.Common()
		if name != "" && common.Name != name {
			continue
		}
		build, known := protocols[l.Protocol]
		if !known {
			return nil, fmt.Errorf("connector %s: protocol %s is unknown here", common.Name, l.Protocol)
		}
		c, err := build(l.Instance)
		if err != nil {
			return nil, fmt.Errorf("connector %s: %w", common.Name, err)
		}
		i := connect.Instance{Connector: c, Name: common.Name, Protocol: l.Protocol, Commands: common.Commands}
		if common.Records != nil {
			i.Records = *common.Records
		} else {
			i.Records = site.DefaultRecords(common.Name)
		}
		all = append(all, i)
	}
	return all, nil
}
