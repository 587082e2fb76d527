package server

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions: which requests are served, in which versions, from the table
// of handlers; and the features of the cluster with their levels.
//
// A later version is answered in version 0 with an error and the range of
// this key, from which the client chooses again (KIP-511). From version 5 on
// a client that means another cluster or broker is told so (KIP-1242).
var apiVersionsAPI = api{key: kmsg.ApiVersions, min: 0, max: 5, handle: handleAPIVersions}

// feature is something whose level all brokers of a cluster agree on
// (KIP-584). A client believes that what belongs to the level is there.
type feature struct {
	name     string
	min, max int16
}

// Features of which level 0 has requests refused.
const (
	groupVersion = "group.version" // the consumer protocol (KIP-848)
	shareVersion = "share.version" // share groups (KIP-932)
)

// features of this broker, by name; a new box has the newest level of each.
var features = []feature{
	{name: groupVersion, min: 0, max: 1},
	{name: shareVersion, min: 0, max: 1},
	{name: "transaction.version", min: 0, max: 2}, // KIP-890
}

func handleAPIVersions(s *Server, _ context.Context, r *request) (answer, error) {
	resp := &kmsg.ApiVersionsResponse{Version: r.version, FinalizedFeaturesEpoch: -1}
	self := s.byKey[kmsg.ApiVersions.Int16()]
	if r.version < self.min || r.version > self.max {
		resp.Version, resp.ErrorCode = 0, kerr.UnsupportedVersion.Code
		resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{self.versions()}
		return answer{msg: resp}, nil
	}
	req := r.msg.(*kmsg.ApiVersionsRequest)
	if err := s.checkMeant(req); err != nil {
		resp.ErrorCode = code(err)
		return answer{msg: resp}, nil
	}
	for _, a := range s.apis {
		resp.ApiKeys = append(resp.ApiKeys, a.versions())
	}
	s.tellFeatures(resp)
	return answer{msg: resp}, nil
}

// checkMeant refuses a client that was sent here by another cluster's
// metadata.
func (s *Server) checkMeant(req *kmsg.ApiVersionsRequest) error {
	if req.Version < 5 || (req.ClusterID == nil && req.NodeID == -1) {
		return nil
	}
	switch {
	case req.ClusterID == nil || req.NodeID == -1:
		return kerr.InvalidRequest
	case *req.ClusterID != s.Meta.ClusterID() || req.NodeID != NodeID:
		return kerr.RebootstrapRequired
	}
	return nil
}

func (s *Server) tellFeatures(resp *kmsg.ApiVersionsResponse) {
	levels, epoch := s.levels()
	if len(levels) == 0 {
		return
	}
	resp.FinalizedFeaturesEpoch = epoch
	for _, f := range features {
		supported := kmsg.NewApiVersionsResponseSupportedFeature()
		supported.Name, supported.MinVersion, supported.MaxVersion = f.name, f.min, f.max
		resp.SupportedFeatures = append(resp.SupportedFeatures, supported)
		if levels[f.name] > 0 {
			final := kmsg.NewApiVersionsResponseFinalizedFeature()
			final.Name, final.MinVersionLevel, final.MaxVersionLevel = f.name, levels[f.name], levels[f.name]
			resp.FinalizedFeatures = append(resp.FinalizedFeatures, final)
		}
	}
}

// levels are the levels of all features, and how often clients set one.
func (s *Server) levels() (map[string]int16, int64) {
	set, epoch := s.Meta.Features()
	out := map[string]int16{}
	for _, f := range features {
		level, ok := set[f.name]
		if !ok || level > f.max {
			level = f.max
		}
		out[f.name] = level
	}
	return out, epoch
}

func (a api) versions() kmsg.ApiVersionsResponseApiKey {
	return kmsg.ApiVersionsResponseApiKey{ApiKey: a.key.Int16(), MinVersion: a.min, MaxVersion: a.max}
}
