// Package auth says who a client is and what it may do: certificates and
// SASL name a principal, access rules say what that principal may do. It
// speaks no Kafka protocol; the server asks it.
package auth

import (
	"net"
	"slices"
	"strings"
)

// UserPrefix stands before a user's name in a principal.
const UserPrefix = "User:"

// Principals that are nobody in particular.
const (
	Everybody = UserPrefix + "*"         // in access rules
	Anonymous = UserPrefix + "ANONYMOUS" // who did not say who it is
	// Box is who connects from the box itself to a listener that trusts it.
	Box = UserPrefix + "box"
)

// UserOf is the name within a principal.
func UserOf(principal string) string { return strings.TrimPrefix(principal, UserPrefix) }

// Security is what a listener asks of its clients. The zero value asks for
// nothing and encrypts nothing.
type Security struct {
	Name string
	TLS  *TLS  // nil: plain text
	SASL *SASL // nil: clients need not say who they are
	// TrustBox takes connections from the box itself for its own services,
	// Box: what comes from a loopback address, or from where it goes to.
	TrustBox bool
	// Advertise says which address a client is told to dial; nil: as for the
	// listeners without a name.
	Advertise func(net.Conn) (host string, port int32)
}

// Listener is a net.Listener whose clients must be secured. The server makes
// the handshakes: Accept returns at once.
type Listener struct {
	net.Listener
	Security
}

// SecurityOf is what a listener asks; nil for one that asks nothing.
func SecurityOf(ln net.Listener) *Security {
	if l, ok := ln.(*Listener); ok {
		return &l.Security
	}
	return nil
}

// HostOf is the address of a client as access rules write it.
func HostOf(addr net.Addr) string {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap().WithZone("").String()
	case nil:
		return ""
	}
	return addr.String()
}

// Mechanisms are the SASL mechanisms there are, as Kafka names them.
var Mechanisms = []string{plain, scram256, scram512, oauthBearer}

const (
	plain       = "PLAIN"
	scram256    = "SCRAM-SHA-256"
	scram512    = "SCRAM-SHA-512"
	oauthBearer = "OAUTHBEARER"
)

func known(mechanism string) bool { return slices.Contains(Mechanisms, mechanism) }
