package server

import (
	"maps"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/share"
)

// beginShares begins a share session, which ends with the connection.
func (c *conn) beginShares(group, member string) (*share.Session, error) {
	session, err := c.s.Shares.Open(c, group, member)
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(c.shares, func(s *share.Session, _ bool) bool { return s.Ended() })
	if c.shares == nil {
		c.shares = map[*share.Session]bool{}
	}
	c.shares[session] = true
	return session, nil
}

func (c *conn) endShares(session *share.Session) {
	session.Close()
	delete(c.shares, session)
}

// refusedShares says why a client may not do op on a share group.
func (s *Server) refusedShares(r *request, op kmsg.ACLOperation, group string) error {
	if err := s.inForce(shareVersion); err != nil {
		return err
	}
	return s.refused(r, op, kmsg.ACLResourceTypeGroup, group)
}
