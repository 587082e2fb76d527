package snmp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gosnmp/gosnmp"

	"github.com/waysideos/wayside/services/connect"
)

// write writes a point and returns what it holds then. It reads the object first: the agent says of what type it is.
func (s *session) write(cmd connect.Command) (any, error) {
	at := slices.IndexFunc(s.points, func(p *point) bool { return p.name == cmd.Point })
	if at < 0 {
		return nil, fmt.Errorf("no point %q", cmd.Point)
	}
	p := s.points[at]
	if !p.writable {
		return nil, fmt.Errorf("point %q is not writable by the profile", cmd.Point)
	}
	before, err := s.read(p)
	if err != nil {
		return nil, fmt.Errorf("not written, for it cannot be read: %v", err)
	}
	pdu, err := p.encode(cmd.Value, before)
	if err != nil {
		return nil, err
	}
	if _, err := answer(s.client.Set([]gosnmp.SnmpPDU{pdu})); err != nil {
		if errors.As(err, new(refusal)) {
			return nil, err
		}
		return nil, fmt.Errorf("no answer, the value may have been written: %v", err)
	}
	wrote, err := p.decode(pdu)
	if err != nil || !p.readBack {
		return wrote, err
	}
	after, err := s.read(p)
	if err != nil {
		return nil, fmt.Errorf("written, but not read back: %v", err)
	}
	got, err := p.decode(after)
	if err != nil || got != wrote {
		return nil, fmt.Errorf("written as %v, but reads back as %v", wrote, got)
	}
	return got, nil
}

func (s *session) read(p *point) (gosnmp.SnmpPDU, error) {
	pdus, err := answer(s.client.Get([]string{p.oid}))
	switch {
	case err != nil:
		return gosnmp.SnmpPDU{}, err
	case len(pdus) != 1 || pdus[0].Name != p.oid:
		return gosnmp.SnmpPDU{}, errors.New("the agent's answer does not have it")
	}
	_, err = p.decode(pdus[0])
	return pdus[0], err
}
