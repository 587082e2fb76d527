package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
)

// SaslAuthenticate: the messages of a SASL mechanism: PLAIN, SCRAM-SHA-256,
// SCRAM-SHA-512, OAUTHBEARER.
//
// Versions 0 to 2. The answer says how long the client is known for; within
// that time it has to authenticate again, by the same mechanism and as the
// same user (KIP-368). What is wrong is answered after a moment, in the same
// words whatever it was, and ends the connection; the log says what it was.
var saslAuthenticateAPI = api{key: kmsg.SASLAuthenticate, min: 0, max: 2, handle: handleSASLAuthenticate}

func handleSASLAuthenticate(s *Server, ctx context.Context, r *request) (answer, error) {
	req := r.msg.(*kmsg.SASLAuthenticateRequest)
	resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
	g := &r.from.guard
	if g.session.talk == nil {
		resp.ErrorCode = kerr.IllegalSaslState.Code
		resp.ErrorMessage = message(kerr.IllegalSaslState)
		g.session.failed = !g.open
		return answer{msg: resp}, nil
	}
	reply, who, err := g.session.talk.Next(req.SASLAuthBytes)
	if err == nil && who != nil {
		err = r.from.prove(who)
	}
	if err != nil {
		s.refuseLogin(ctx, r, err)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		text := "Authentication failed: credentials are not valid for mechanism " + g.session.mechanism
		resp.ErrorMessage = &text
		if g.session.raw {
			return answer{}, errRefused
		}
		return answer{msg: resp}, nil
	}
	resp.SASLAuthBytes = reply
	if reply == nil {
		resp.SASLAuthBytes = []byte{}
	}
	if who != nil && !g.session.expires.IsZero() {
		resp.SessionLifetimeMillis = max(time.Until(g.session.expires).Milliseconds(), 1)
	}
	if r.raw {
		return answer{raw: resp.SASLAuthBytes}, nil
	}
	return answer{msg: resp}, nil
}

// refuseLogin makes a wrong password slow, and the connection's last.
func (s *Server) refuseLogin(ctx context.Context, r *request, err error) {
	g := &r.from.guard
	s.Log.Warn("refuse a client", "client", r.conn.RemoteAddr(), "listener", g.sec.Name, "mechanism", g.session.mechanism, "err", err)
	g.session.failed, g.session.talk = true, nil
	pause(ctx, authDelay)
}

// prove lets a client in, or on.
func (c *conn) prove(who *auth.Identity) error {
	g, now := &c.guard, time.Now()
	principal := auth.UserPrefix + who.User
	if principal == auth.Box {
		return errBox
	}
	if g.session.proved && principal != g.principal {
		return fmt.Errorf("%s authenticates again as %s", g.principal, principal)
	}
	expires := time.Time{}
	if m := g.sec.SASL.MaxSession; m > 0 {
		expires = now.Add(m)
	}
	if left := time.Until(who.Expires); !who.Expires.IsZero() && (expires.IsZero() || now.Add(left).Before(expires)) {
		expires = now.Add(max(left, time.Millisecond)) // by the monotonic clock from here on
	}
	g.session.talk, g.session.expires, g.session.proved, g.open = nil, expires, true, true
	c.becomes(principal)
	return nil
}

// rawToken reads a message of a mechanism that comes without a header, and
// makes of it the request that it stands for.
func (c *conn) rawToken(ctx context.Context, size int32) (*request, func(), error) {
	if size < 0 || size > strangerBytes {
		return nil, nil, fmt.Errorf("authentication message of %d bytes, at most %d are allowed", size, strangerBytes)
	}
	n, err := c.s.memory.strangers.acquire(ctx, c.address(), int64(size))
	if err != nil {
		return nil, nil, err
	}
	free := func() { c.s.memory.strangers.release(n) }
	token := make([]byte, size)
	if err := c.readBody(token, c.s.memory.strangers, false); err != nil {
		free()
		return nil, nil, fmt.Errorf("read an authentication message: %w", err)
	}
	msg := kmsg.NewPtrSASLAuthenticateRequest()
	msg.SASLAuthBytes = token
	return &request{conn: c.nc, from: c, key: kmsg.SASLAuthenticate.Int16(), raw: true, msg: msg}, free, nil
}

// appendRaw appends a message that has a length and no header.
func appendRaw(dst, message []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(message))), message...)
}
