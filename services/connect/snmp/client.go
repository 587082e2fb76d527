package snmp

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/gosnmp/gosnmp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

const defaultCommunity = "public"

var versions = map[string]gosnmp.SnmpVersion{site.SNMP1: gosnmp.Version1, site.SNMP2c: gosnmp.Version2c, site.SNMP3: gosnmp.Version3}

// dial opens a socket; nothing goes to the agent yet.
func (c *Connector) dial(ctx context.Context, box *connect.Box) (*gosnmp.GoSNMP, error) {
	host, port, err := net.SplitHostPort(c.cfg.Address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	g := &gosnmp.GoSNMP{
		Target: host, Port: uint16(n), Version: versions[c.cfg.Version], Context: ctx, Timeout: c.timeout,
		Retries: *c.cfg.Retries, MaxOids: c.cfg.MaxOIDs, Community: defaultCommunity, ContextName: c.cfg.Context,
	}
	if c.cfg.Community != "" {
		if g.Community, err = box.Secret(c.cfg.Community); err != nil {
			return nil, err
		}
	}
	if c.cfg.User != nil {
		g.SecurityModel = gosnmp.UserSecurityModel
		if g.SecurityParameters, g.MsgFlags, err = user(box, c.cfg.User); err != nil {
			return nil, err
		}
	}
	return g, g.Connect()
}

// user reads a user's passwords; flags are the least security that its
// messages may have.
func user(box *connect.Box, u *site.SNMPUser) (sp *gosnmp.UsmSecurityParameters, flags gosnmp.SnmpV3MsgFlags, err error) {
	sp = &gosnmp.UsmSecurityParameters{UserName: u.Name, AuthenticationProtocol: gosnmp.NoAuth, PrivacyProtocol: gosnmp.NoPriv}
	flags = gosnmp.NoAuthNoPriv
	if u.Auth != "" {
		flags = gosnmp.AuthNoPriv
		sp.AuthenticationProtocol = map[string]gosnmp.SnmpV3AuthProtocol{site.SNMPSHA: gosnmp.SHA, site.SNMPSHA256: gosnmp.SHA256}[u.Auth]
		if sp.AuthenticationPassphrase, err = password(box, u.AuthPassword); err != nil {
			return nil, 0, err
		}
	}
	if u.Priv != "" {
		flags = gosnmp.AuthPriv
		sp.PrivacyProtocol = gosnmp.AES
		if sp.PrivacyPassphrase, err = password(box, u.PrivPassword); err != nil {
			return nil, 0, err
		}
	}
	return sp, flags, nil
}

// password is one that agents take as well (RFC 3414, 11.2).
func password(box *connect.Box, file string) (string, error) {
	text, err := box.Secret(file)
	if err == nil && len(text) < 8 {
		err = fmt.Errorf("the password in %s is shorter than 8 characters", file)
	}
	return text, err
}

// refusal is an answer that something cannot be done.
type refusal struct {
	code  gosnmp.SNMPError
	index int // of the object at fault, from 1; 0: unknown
	text  string
}

func (r refusal) Error() string { return r.text }

// answer makes a refusal of an answer that is one. Any other error is an
// agent that did not answer, or not to this user.
func answer(packet *gosnmp.SnmpPacket, err error) ([]gosnmp.SnmpPDU, error) {
	if err != nil {
		// A panic in the library comes with the stacks of the whole process.
		text, _, _ := strings.Cut(err.Error(), " Stack:")
		return nil, fmt.Errorf("%s", text)
	}
	if packet.Error != gosnmp.NoError {
		return nil, refusal{packet.Error, int(packet.ErrorIndex), fmt.Sprintf("the agent says %s", packet.Error)}
	}
	return packet.Variables, nil
}
