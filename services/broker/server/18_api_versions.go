package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions: which requests are served, in which versions; from the table
// of handlers.
//
// Versions 0 to 4. A later one is answered in version 0 with an error and the
// range of this key, from which the client chooses again (KIP-511). The
// response header is always version 0.
var apiVersionsAPI = api{key: kmsg.ApiVersions, min: 0, max: 4, handle: handleAPIVersions}

func handleAPIVersions(s *Server, _ context.Context, r *request) (answer, error) {
	resp := &kmsg.ApiVersionsResponse{Version: r.version, FinalizedFeaturesEpoch: -1}
	self := s.byKey[kmsg.ApiVersions.Int16()]
	if r.version < self.min || r.version > self.max {
		resp.Version, resp.ErrorCode = 0, kerr.UnsupportedVersion.Code
		resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{self.versions()}
		return answer{msg: resp}, nil
	}
	for _, a := range s.apis {
		resp.ApiKeys = append(resp.ApiKeys, a.versions())
	}
	return answer{msg: resp}, nil
}

func (a api) versions() kmsg.ApiVersionsResponseApiKey {
	return kmsg.ApiVersionsResponseApiKey{ApiKey: a.key.Int16(), MinVersion: a.min, MaxVersion: a.max}
}
