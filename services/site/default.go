package site

import "net/netip"

// Version is the only format version there is.
const Version = 1

// Addresses services listen on unless the profile says otherwise.
const (
	DefaultSite          = "wayside"
	DefaultBrokerListen  = ":9092"
	DefaultDiskShare     = "80%"
	DefaultMQTTListen    = ":1883"
	DefaultMQTTTopic     = "mqtt"
	DefaultConsoleListen = ":8080"
)

// Default is the profile of a box that was given none: DHCP on every
// Ethernet interface, topics made on demand, every MQTT message into one
// topic, no uplink.
func Default() *Profile { return DefaultFor(Own{}) }

// DefaultFor is Default for one box.
func DefaultFor(own Own) *Profile {
	p := &Profile{
		Version: Version,
		Site:    DefaultSite,
		Connect: Connect{MQTT: &MQTT{Routes: []Route{{Filter: "#", Topic: DefaultMQTTTopic}}}},
	}
	own.take(p)
	p.fill()
	return p
}

// fill sets every field that was left out to its default, so that readers of
// a Profile test for nothing but what a person may really leave out. Filling
// twice changes nothing.
func (p *Profile) fill() {
	orString(&p.Network.Hostname, p.Site)
	for i := range p.Network.Interfaces {
		p.Network.Interfaces[i].fill()
	}
	if p.Network.Wifi != nil {
		p.Network.Wifi.fill()
	}
	orString(&p.Broker.Listen, DefaultBrokerListen)
	orBool(&p.Broker.AutoCreate, true)
	orString(&p.Broker.DiskShare, DefaultDiskShare)
	for i := range p.Broker.Listeners {
		p.Broker.Listeners[i].fill()
	}
	p.Broker.Security.fill()
	for i := range p.Broker.Topics {
		if p.Broker.Topics[i].Partitions == 0 {
			p.Broker.Topics[i].Partitions = 1
		}
	}
	for i := range p.Links {
		p.Links[i].fill()
	}
	if p.Connect.MQTT != nil {
		p.Connect.MQTT.fill()
	}
	for _, i := range p.Connect.Instances() {
		i.fill()
	}
	orString(&p.Console.Listen, DefaultConsoleListen)
	p.Update.fill()
	if p.Telemetry != nil {
		orString(&p.Telemetry.Topic, "wayside.telemetry")
		orString(&p.Telemetry.Every, "1m")
	}
}

func (i *Interface) fill() {
	static4 := false
	for _, a := range i.Addresses {
		if pre, err := netip.ParsePrefix(a); err == nil && pre.Addr().Is4() {
			static4 = true
		}
	}
	orBool(&i.DHCP4, !static4)
	orBool(&i.RA, true)
}

func orString(s *string, def string) {
	if *s == "" {
		*s = def
	}
}

func orInt(n *int, def int) {
	if *n == 0 {
		*n = def
	}
}

func orBool(b **bool, def bool) {
	if *b == nil {
		*b = &def
	}
}
