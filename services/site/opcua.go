package site

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// OPCUA is a client of one OPC UA server: it subscribes to nodes, writes
// them, and calls methods.
type OPCUA struct {
	Name     string         `yaml:"name"`
	Endpoint string         `yaml:"endpoint"` // opc.tcp://host:port/path
	Security *OPCUASecurity `yaml:"security,omitempty"`
	// User and Password (a file) log in; default: anonymous.
	User     string `yaml:"user,omitempty"`
	Password string `yaml:"password,omitempty"`
	// InsecurePassword lets the password go to a server whose certificate was
	// not compared with a trust list, and over the network as it is.
	InsecurePassword bool `yaml:"insecure_password,omitempty"`
	// Interval in which the server publishes what changed; default 1s.
	Interval string        `yaml:"interval,omitempty"`
	Points   []OPCUAPoint  `yaml:"points,omitempty"`
	Methods  []OPCUAMethod `yaml:"methods,omitempty"`
	Records  Records       `yaml:"records,omitempty"`
	Commands *Commands     `yaml:"commands,omitempty"`
}

// OPCUASecurity is how messages are protected, and who is believed.
type OPCUASecurity struct {
	Policy string `yaml:"policy,omitempty"` // default Basic256Sha256
	Mode   string `yaml:"mode,omitempty"`   // sign or sign-and-encrypt, the default
	Cert   string `yaml:"cert"`             // file of the client's certificate, PEM
	Key    string `yaml:"key"`              // file of its RSA key, PEM
	// Trust is a file of certificates, PEM: servers' own, or those of their
	// authorities.
	Trust string `yaml:"trust"`
}

// OPCUAPoint is a variable of the server.
type OPCUAPoint struct {
	Name string `yaml:"name"`
	// Node is its id: ns=2;s=Machine.Temp, or nsu=URI;s=... where the
	// namespace's number may change.
	Node     string  `yaml:"node"`
	Unit     string  `yaml:"unit,omitempty"`
	Sampling string  `yaml:"sampling,omitempty"` // by the server; default: the interval
	Queue    int     `yaml:"queue,omitempty"`    // values that the server keeps for us; default 100
	Deadband float64 `yaml:"deadband,omitempty"` // that the server applies to a number
	Report   Report  `yaml:"report,omitempty"`
}

// OPCUAMethod can be called by a command that names it as its point.
type OPCUAMethod struct {
	Name   string `yaml:"name"`
	Object string `yaml:"object"` // node id
	Method string `yaml:"method"` // node id
}

const (
	defaultOPCUAInterval = "1s"
	defaultOPCUAQueue    = 100
	defaultOPCUAPolicy   = "Basic256Sha256"

	// ModeSign and ModeSignAndEncrypt are the modes of OPCUASecurity.
	ModeSign           = "sign"
	ModeSignAndEncrypt = "sign-and-encrypt"
)

// Common implements Instance.
func (o *OPCUA) Common() Common {
	return Common{Name: o.Name, Records: &o.Records, Commands: o.Commands, Words: ReadingWords}
}

func (o *OPCUA) fill() {
	orString(&o.Interval, defaultOPCUAInterval)
	if s := o.Security; s != nil {
		orString(&s.Policy, defaultOPCUAPolicy)
		orString(&s.Mode, ModeSignAndEncrypt)
	}
	for i := range o.Points {
		orString(&o.Points[i].Sampling, o.Interval)
		orInt(&o.Points[i].Queue, defaultOPCUAQueue)
	}
	o.Records.fill(o.Name, "{point}")
	o.Commands.fill()
}

func (o *OPCUA) check(c checker, path string) {
	c.text(path+".endpoint", o.Endpoint, opcAddress)
	c.text(path+".interval", o.Interval, span(10*time.Millisecond, time.Hour))
	c.secret(path+".password", o.Password)
	if (o.User == "") != (o.Password == "") {
		c.key(path, "", "user and password (the name of its file) need each other")
	}
	if o.Password != "" && o.Security == nil && !o.InsecurePassword {
		c.key(path+".password", "", "needs security with a trust list: whoever answers at the endpoint would get it; insecure_password: true allows that")
	}
	if s := o.Security; s != nil {
		c.text(path+".security.policy", s.Policy, oneOf("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"))
		c.text(path+".security.mode", s.Mode, oneOf(ModeSign, ModeSignAndEncrypt))
		c.secret(path+".security.cert", s.Cert)
		c.secret(path+".security.key", s.Key)
		c.secret(path+".security.trust", s.Trust)
	}
	o.checkPoints(c, path)
	for i, m := range o.Methods {
		c.text(fmt.Sprintf("%s.methods[%d].object", path, i), m.Object, opcNode)
		c.text(fmt.Sprintf("%s.methods[%d].method", path, i), m.Method, opcNode)
	}
	if len(o.Points) == 0 && len(o.Methods) == 0 {
		c.key(path, "", "does nothing: give it points, or methods")
	}
	if len(o.Methods) > 0 && o.Commands == nil {
		c.key(path+".methods", "", "are called by commands: give the connector commands, with their topic")
	}
}

func (o *OPCUA) checkPoints(c checker, path string) {
	at := func(i int) string { return fmt.Sprintf("%s.points[%d]", path, i) }
	for i, p := range o.Points {
		c.text(at(i)+".node", p.Node, opcNode)
		c.text(at(i)+".sampling", p.Sampling, span(0, time.Hour))
		if p.Queue < 0 || p.Queue > 10000 {
			c.value(at(i)+".queue", "", "want 1 to 10000 values, got %d", p.Queue)
		}
		if p.Deadband < 0 {
			c.value(at(i)+".deadband", "", "want a number from 0, got %v", p.Deadband)
		}
		c.exception(at(i)+".report", &o.Points[i].Report)
	}
	c.unique(len(o.Points)+len(o.Methods), func(i int) (string, string) {
		if i < len(o.Points) {
			return o.Points[i].Name, at(i) + ".name"
		}
		i -= len(o.Points)
		return o.Methods[i].Name, fmt.Sprintf("%s.methods[%d].name", path, i)
	})
}

func opcAddress(s string) fault {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "opc.tcp" || u.Hostname() == "" {
		return faultf("%q is no endpoint such as opc.tcp://192.0.2.30:4840", shorten(s))
	}
	return fault{}
}

// opcNode is a node id in the notation of OPC UA part 6, 5.3.1.10. Whether
// there is such a node is the server's word.
func opcNode(s string) fault {
	id := s
	if space, rest, ok := strings.Cut(s, ";"); ok && (strings.HasPrefix(space, "ns=") || strings.HasPrefix(space, "nsu=")) {
		id = rest
	}
	for _, kind := range []string{"i=", "s=", "g=", "b="} {
		if strings.HasPrefix(id, kind) && len(id) > len(kind) {
			return fault{}
		}
	}
	return faultf("%q is no node id such as ns=2;s=Machine.Temp or ns=2;i=1001", shorten(s))
}
