package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerID: an id for an idempotent producer (KIP-98), never given
// twice, power cuts included.
//
// Versions 0 to 4. Transactional ids are refused: transactions are not served
// yet.
var initProducerIDAPI = api{key: kmsg.InitProducerID, min: 0, max: 4, handle: typed(handleInitProducerID)}

func handleInitProducerID(s *Server, _ context.Context, _ *request, req *kmsg.InitProducerIDRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil {
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return resp
	}
	id, err := s.Meta.NextProducerID()
	if err != nil {
		s.Log.Error("hand out a producer id", "err", err)
		resp.ErrorCode = coordinatorCode(err)
		return resp
	}
	resp.ProducerID, resp.ProducerEpoch = id, 0
	return resp
}
