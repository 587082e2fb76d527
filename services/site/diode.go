package site

// DiodeSend sends topics of the box over a link that has no way back.
type DiodeSend struct {
	Name    string   `yaml:"name"`
	Address string   `yaml:"address"` // host:port of the receiver, UDP
	Topics  []string `yaml:"topics"`  // by name, or with a trailing *
	// Rate is what goes over the wire at most, such as 10Mbit/s; default 1MB/s.
	Rate string `yaml:"rate,omitempty"`
	// Redundancy is how many datagrams are added to a hundred: as many of a
	// block may get lost. Default 25.
	Redundancy *int `yaml:"redundancy,omitempty"`
	// Key is a file whose content both sides have: datagrams of others are
	// not taken. Default: a checksum only.
	Key string `yaml:"key,omitempty"`
}

// DiodeReceive takes what a DiodeSend on the other side sends.
type DiodeReceive struct {
	Name    string  `yaml:"name"`
	Listen  string  `yaml:"listen,omitempty"` // host:port, UDP; default ":4900"
	Key     string  `yaml:"key,omitempty"`    // file, as the sender's
	Records Records `yaml:"records,omitempty"`
}

const (
	DefaultDiodeListen = ":4900"

	defaultDiodeRate       = "1MB/s"
	defaultDiodeRedundancy = 25
)

// Common implements Instance.
func (d *DiodeSend) Common() Common { return Common{Name: d.Name} }

func (d *DiodeSend) fill() {
	orString(&d.Rate, defaultDiodeRate)
	if d.Redundancy == nil {
		n := defaultDiodeRedundancy
		d.Redundancy = &n
	}
}

func (d *DiodeSend) check(c checker, path string) {
	c.text(path+".address", d.Address, dialAddress("4900"))
	c.texts(path+".topics", d.Topics, topicMatch)
	c.text(path+".rate", d.Rate, rate)
	c.secret(path+".key", d.Key)
	if d.Redundancy != nil && (*d.Redundancy < 0 || *d.Redundancy > 200) {
		c.value(path+".redundancy", "", "want 0 to 200 datagrams more for a hundred, got %d", *d.Redundancy)
	}
}

// Common implements Instance.
func (d *DiodeReceive) Common() Common {
	return Common{Name: d.Name, Records: &d.Records, Words: []string{"topic", "partition"}}
}

func (d *DiodeReceive) fill() {
	orString(&d.Listen, DefaultDiodeListen)
	orString(&d.Records.Topic, "{topic}")
	orString(&d.Records.Format, FormatRaw) // a record stays as it was
	d.Records.fill(d.Name, "")
}

func (d *DiodeReceive) check(c checker, path string) {
	c.text(path+".listen", d.Listen, listenAddress)
	c.secret(path+".key", d.Key)
	if f := d.Records.Format; f != "" && f != FormatRaw {
		c.value(path+".records.format", FormatRaw, "records are carried as they are")
	}
	if d.Records.Key != "" {
		c.value(path+".records.key", "", "records keep the key that they have")
	}
}
