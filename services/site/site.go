// Package site is the site profile: the one YAML file that says what a box
// is called, how it reaches the network, which topics it keeps, what it
// connects and where its records go. It holds types, defaults, parsing and
// validation; what is wrong is named by file, line, field and reason.
package site

// Profile is one site. The zero value is not valid; start from Default.
type Profile struct {
	// Version of this format; 1.
	Version int `yaml:"version"`
	// Site identifies the box at the centre: lower-case letters, digits and
	// hyphens, at most 63 characters. It is the default host name.
	Site        string `yaml:"site"`
	Description string `yaml:"description,omitempty"`
	// Variables stand for what differs between boxes: {var:NAME} in any text.
	// A box's claim gives others; these are for one without.
	Variables map[string]string `yaml:"variables,omitempty"`
	Network   Network           `yaml:"network,omitempty"`
	Hardware  Hardware          `yaml:"hardware,omitempty"`
	Broker    Broker            `yaml:"broker,omitempty"`
	Links     []Link            `yaml:"links,omitempty"`
	Connect   Connect           `yaml:"connect,omitempty"`
	Console   Console           `yaml:"console,omitempty"`
	Update    Update            `yaml:"update,omitempty"`
	// Telemetry has the box write what it says of itself to a topic; default: no.
	Telemetry *Telemetry `yaml:"telemetry,omitempty"`
}

// Telemetry is written to a topic of the box, which links may carry.
type Telemetry struct {
	Topic string `yaml:"topic,omitempty"` // default "wayside.telemetry"
	Every string `yaml:"every,omitempty"` // span, default 1m
}

// Network is how the box reaches others.
type Network struct {
	Hostname string `yaml:"hostname,omitempty"` // default: the site
	// Interfaces by match; an Ethernet interface that none matches gets DHCP
	// for IPv4 and router advertisements for IPv6.
	Interfaces []Interface `yaml:"interfaces,omitempty"`
	// Wifi joins wireless networks; default: none.
	Wifi *Wifi    `yaml:"wifi,omitempty"`
	DNS  []string `yaml:"dns,omitempty"` // IP addresses, before those DHCP gives
	NTP  []string `yaml:"ntp,omitempty"` // host names or addresses, before those DHCP gives
}

// Interface configures the network interfaces that Match names.
type Interface struct {
	Match     string   `yaml:"match"`               // name, with * and ?; "eth0", "eth*"
	DHCP4     *bool    `yaml:"dhcp4,omitempty"`     // default: true if Addresses holds no IPv4
	RA        *bool    `yaml:"ra,omitempty"`        // accept IPv6 router advertisements; default true
	Addresses []string `yaml:"addresses,omitempty"` // CIDR, IPv4 or IPv6
	Gateways  []string `yaml:"gateways,omitempty"`  // IP addresses, at most one a family
	MTU       int      `yaml:"mtu,omitempty"`       // bytes; 0 leaves it
	// Metric of the interface's default routes: of the interfaces with a link
	// the one with the lowest is used. Default: by kind of interface.
	Metric int `yaml:"metric,omitempty"`
}

// Broker is the edge broker.
type Broker struct {
	Listen     string  `yaml:"listen,omitempty"`     // host:port; default ":9092"
	Advertised string  `yaml:"advertised,omitempty"` // host:port; default: the address a client dialled
	Topics     []Topic `yaml:"topics,omitempty"`     // made at start if absent; never removed
	// AutoCreate lets a producer or a metadata request make a topic; default true.
	AutoCreate *bool `yaml:"auto_create,omitempty"`
	// DiskShare of the file system that all records together may take, such
	// as "80%", which is the default.
	DiskShare string `yaml:"disk_share,omitempty"`
	// Listeners beside Listen, which is plain text.
	Listeners []Listener `yaml:"listeners,omitempty"`
	Security  Security   `yaml:"security,omitempty"`
}

// Topic is a topic that the box always has.
type Topic struct {
	Name       string            `yaml:"name"`
	Partitions int               `yaml:"partitions,omitempty"` // default 1
	Config     map[string]string `yaml:"config,omitempty"`     // Kafka topic configuration
}

// Console is the status page.
type Console struct {
	Listen string `yaml:"listen,omitempty"` // host:port; default ":8080"
}
