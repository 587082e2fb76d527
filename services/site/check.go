package site

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// fault is what is wrong with one value, and perhaps a better one. The zero
// fault means nothing is.
type fault struct{ reason, hint string }

func faultf(format string, a ...any) fault { return fault{reason: fmt.Sprintf(format, a...)} }

// rule judges one non-empty text.
type rule func(string) fault

// checker judges values whose types are right. It sees the profile before
// defaults are filled in: what is empty was left out, or is already
// complained of, and is passed over.
type checker struct{ *report }

func checkProfile(p *Profile, r *report) {
	c := checker{r}
	if _, given := r.keys["version"]; given && p.Version != Version {
		c.value("version", "", "want %d, the only version there is, got %d", Version, p.Version)
	}
	c.text("site", p.Site, siteID)
	c.variables(variables, p.Variables)
	c.network("network", &p.Network)
	c.hardware("hardware", &p.Hardware)
	c.broker("broker", &p.Broker)
	c.links("links", p.Links)
	if t := p.Telemetry; t != nil {
		c.text("telemetry.topic", t.Topic, topicName)
		c.text("telemetry.every", t.Every, span(time.Second, 24*time.Hour))
	}
	if p.Connect.MQTT != nil {
		c.mqtt("connect.mqtt", p.Connect.MQTT)
		c.routeTopics("connect.mqtt", p.Connect.MQTT, &p.Broker)
	}
	c.connectors(&p.Connect)
	c.text("console.listen", p.Console.Listen, listenAddress)
	c.update("update", &p.Update)
}

func (c checker) text(path, value string, rule rule) {
	if value == "" {
		return
	}
	if f := rule(value); f.reason != "" {
		c.value(path, f.hint, "%s", f.reason)
	}
}

// texts checks every entry of a list, and that none is there twice.
func (c checker) texts(path string, values []string, rule rule) {
	at := func(i int) string { return fmt.Sprintf("%s[%d]", path, i) }
	for i, v := range values {
		if v == "" {
			c.value(at(i), "", "is empty")
			continue
		}
		c.text(at(i), v, rule)
	}
	c.unique(len(values), func(i int) (string, string) { return values[i], at(i) })
}

// unique complains of every entry whose name an earlier one has. Empty names
// are passed over.
func (c checker) unique(n int, entry func(i int) (name, field string)) {
	first := map[string]string{}
	for i := range n {
		name, field := entry(i)
		if name == "" {
			continue
		}
		if earlier, ok := first[name]; ok {
			c.value(field, "", "%q is given twice, first on line %d", shorten(name), c.lineOf(earlier))
			continue
		}
		first[name] = field
	}
}

func (c checker) network(path string, n *Network) {
	c.text(path+".hostname", n.Hostname, hostName)
	c.texts(path+".dns", n.DNS, ipAddress)
	c.texts(path+".ntp", n.NTP, host)
	if n.Wifi != nil {
		c.wifi(path+".wifi", n.Wifi)
	}
	for i := range n.Interfaces {
		c.iface(fmt.Sprintf("%s.interfaces[%d]", path, i), &n.Interfaces[i])
	}
	c.unique(len(n.Interfaces), func(i int) (string, string) {
		return n.Interfaces[i].Match, fmt.Sprintf("%s.interfaces[%d].match", path, i)
	})
}

func (c checker) iface(path string, n *Interface) {
	c.text(path+".match", n.Match, interfaceMatch)
	c.texts(path+".addresses", n.Addresses, cidr)
	c.texts(path+".gateways", n.Gateways, ipAddress)
	if n.MTU != 0 && (n.MTU < 576 || n.MTU > 65535) {
		c.value(path+".mtu", "", "want 576 to 65535 bytes, got %d", n.MTU)
	}
	c.number(path+".metric", n.Metric, 1, maxMetric)
	families := map[bool]string{}
	for i, text := range n.Gateways {
		gw, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		at := fmt.Sprintf("%s.gateways[%d]", path, i)
		if first, ok := families[gw.Is4()]; ok {
			c.value(at, "", "%s is a second gateway of its family, beside %s", text, first)
		}
		families[gw.Is4()] = text
		if !reachable(gw, n.Addresses) {
			c.value(at, "", "%s is in no network of this interface's addresses", text)
		}
	}
}

// reachable is false when static addresses of the gateway's family are given
// and none of their networks holds it. A host route (/32, /128) or a
// link-local gateway says nothing.
func reachable(gw netip.Addr, addresses []string) bool {
	known := false
	for _, a := range addresses {
		p, err := netip.ParsePrefix(a)
		if err != nil || p.Addr().Is4() != gw.Is4() {
			continue
		}
		if p.Contains(gw) || p.IsSingleIP() || gw.IsLinkLocalUnicast() {
			return true
		}
		known = true
	}
	return !known
}

func (c checker) broker(path string, b *Broker) {
	c.text(path+".listen", b.Listen, listenAddress)
	c.text(path+".advertised", b.Advertised, dialAddress("9092"))
	c.text(path+".disk_share", b.DiskShare, share)
	c.listeners(path, b)
	at := func(i int) string { return fmt.Sprintf("%s.topics[%d]", path, i) }
	for i, t := range b.Topics {
		c.text(at(i)+".name", t.Name, topicName)
		if _, given := c.keys[at(i)+".partitions"]; given && (t.Partitions < 1 || t.Partitions > maxPartitions) {
			c.value(at(i)+".partitions", "", "want 1 to %d, got %d", maxPartitions, t.Partitions)
		}
		c.topicConfig(at(i)+".config", t.Config)
	}
	c.unique(len(b.Topics), func(i int) (string, string) { return b.Topics[i].Name, at(i) + ".name" })
}

// routeTopics wants every route's topic declared where none is made on
// demand: its messages would be refused for ever.
func (c checker) routeTopics(path string, m *MQTT, b *Broker) {
	if b.AutoCreate == nil || *b.AutoCreate {
		return
	}
	var names []string
	for _, t := range b.Topics {
		names = append(names, t.Name)
	}
	for i, r := range m.Routes {
		if r.Topic != "" && !slices.Contains(names, r.Topic) {
			c.value(fmt.Sprintf("%s.routes[%d].topic", path, i), nearest(r.Topic, names),
				"%q is not among broker.topics, and broker.auto_create is false", shorten(r.Topic))
		}
	}
}
