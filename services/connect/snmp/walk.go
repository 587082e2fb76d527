package snmp

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gosnmp/gosnmp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/site"
)

// walk reads a subtree and tells its objects; those that the last walk had
// and this one has not are bad.
func (s *session) walk(w *walk) error {
	pdus, cut, err := s.subtree(w)
	if err != nil {
		return err
	}
	now := time.Now()
	rows := make([]string, len(pdus))
	rs := make([]connect.Reading, len(pdus))
	for i, pdu := range pdus {
		rows[i] = strings.TrimPrefix(pdu.Name, w.oid)
		rs[i] = w.row(rows[i], now)
		if rs[i].Value, err = w.decode(pdu); err != nil {
			rs[i].Value, rs[i].Quality, rs[i].Detail = nil, connect.Bad, err.Error()
		}
	}
	have := map[string]bool{}
	for _, index := range rows {
		have[index] = true
	}
	gone := slices.DeleteFunc(w.rows, func(index string) bool { return have[index] })
	rs = append(rs, w.bad(gone, now, "the agent does not have it any more")...)
	w.rows, s.lost = rows, false
	s.box.Tell(rs...)
	if cut {
		s.faults[w.name] = fmt.Errorf("%s: there is more below %s than max_rows, %d", w.name, w.oid[1:], w.maxRows)
	}
	return nil
}

// subtree lists the objects below a walk, in order; cut: there are more than
// it may have.
func (s *session) subtree(w *walk) (pdus []gosnmp.SnmpPDU, cut bool, err error) {
	for at := w.oid; ; at = pdus[len(pdus)-1].Name {
		var more []gosnmp.SnmpPDU
		if s.cfg.Version == site.SNMP1 {
			more, err = answer(s.client.GetNext([]string{at}))
		} else {
			more, err = answer(s.client.GetBulk([]string{at}, 0, uint32(s.cfg.MaxRepetitions)))
		}
		var no refusal
		if errors.As(err, &no) && no.code == gosnmp.NoSuchName && s.cfg.Version == site.SNMP1 {
			return pdus, false, nil // the end of all that the agent has
		}
		if err != nil {
			return nil, false, err
		}
		for _, pdu := range more {
			if pdu.Type == gosnmp.EndOfMibView || !strings.HasPrefix(pdu.Name, w.oid+".") {
				return pdus, false, nil
			}
			if !after(pdu.Name, at) {
				return nil, false, refusal{text: fmt.Sprintf("the agent walks in circles: %s does not come after %s", pdu.Name[1:], at[1:])}
			}
			if len(pdus) == w.maxRows {
				return pdus, true, nil
			}
			pdus, at = append(pdus, pdu), pdu.Name
		}
		if len(more) == 0 {
			return pdus, false, nil
		}
	}
}

// after orders object identifiers by their numbers.
func after(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	return slices.CompareFunc(x, y, func(m, n string) int {
		i, _ := strconv.ParseUint(m, 10, 64)
		k, _ := strconv.ParseUint(n, 10, 64)
		switch {
		case i < k:
			return -1
		case i > k:
			return 1
		}
		return 0
	}) > 0
}
