package server

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/auth"
)

// SaslHandshake: the client chooses how it will say who it is.
//
// Versions 0 to 1. After version 0 the mechanism's own messages follow
// without a header, as clients before Kafka 1.0 send them. A client that is
// known already begins to authenticate again (KIP-368). GSSAPI (Kerberos) is
// not offered: no box has a key distribution centre.
var saslHandshakeAPI = api{key: kmsg.SASLHandshake, min: 0, max: 1, handle: typed(handleSASLHandshake)}

func handleSASLHandshake(s *Server, _ context.Context, r *request, req *kmsg.SASLHandshakeRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
	g := &r.from.guard
	if g.sec == nil || g.sec.SASL == nil {
		resp.ErrorCode = kerr.IllegalSaslState.Code
		return resp
	}
	resp.SupportedMechanisms = g.sec.SASL.Mechanisms
	s.Log.Debug("client begins to authenticate", "client", r.conn.RemoteAddr(), "mechanism", req.Mechanism)
	if g.session.mechanism != "" && g.open && g.session.mechanism != req.Mechanism {
		resp.ErrorCode = kerr.IllegalSaslState.Code // KIP-368: as before
		return resp
	}
	talk, err := g.sec.SASL.Start(req.Mechanism, s.Meta.Scram)
	if errors.Is(err, auth.ErrMechanism) {
		resp.ErrorCode = kerr.UnsupportedSaslMechanism.Code
		g.session.failed = !g.open
		return resp
	}
	g.session.mechanism, g.session.talk, g.session.raw = req.Mechanism, talk, req.Version == 0
	return resp
}
