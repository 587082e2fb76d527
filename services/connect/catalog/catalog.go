// Package catalog is the table of all connectors: which protocol of the site
// profile is whose. Nothing else imports them all.
package catalog

import (
	"fmt"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/diode"
	"github.com/waysideos/wayside/services/connect/files"
	"github.com/waysideos/wayside/services/connect/filesink"
	"github.com/waysideos/wayside/services/connect/http"
	"github.com/waysideos/wayside/services/connect/modbus"
	"github.com/waysideos/wayside/services/connect/mqttclient"
	"github.com/waysideos/wayside/services/connect/opcua"
	"github.com/waysideos/wayside/services/connect/s7"
	"github.com/waysideos/wayside/services/connect/snmp"
	"github.com/waysideos/wayside/services/connect/syslog"
	"github.com/waysideos/wayside/services/site"
)

// protocols makes the connector of an entry of the profile. The names are the
// fields of site.Connect.
var protocols = map[string]func(site.Instance) (connect.Connector, error){
	"diode_receive": of(diode.NewReceiver),
	"diode_send":    of(diode.NewSender),
	"file_sink":     of(filesink.New),
	"files":         of(files.New),
	"http":          of(http.New),
	"mqtt_client":   of(mqttclient.New),
	"modbus":        of(modbus.New),
	"opcua":         of(opcua.New),
	"s7":            of(s7.New),
	"snmp":          of(snmp.New),
	"snmp_traps":    of(snmp.NewReceiver),
	"syslog":        of(syslog.New),
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
		own := l.Common().Name
		if name != "" && own != name {
			continue
		}
		build, known := protocols[l.Protocol]
		if !known {
			return nil, fmt.Errorf("connector %s: protocol %s is unknown here", own, l.Protocol)
		}
		c, err := build(l.Instance)
		if err != nil {
			return nil, fmt.Errorf("connector %s: %w", own, err)
		}
		all = append(all, connect.NewInstance(l, c))
	}
	return all, nil
}
