package server

import (
	"context"
	"fmt"
	"maps"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// UpdateFeatures: sets the level of a feature, durably and for all requests
// that follow.
//
// As in Kafka, group.version 0 has the requests of the consumer protocol
// refused (UNSUPPORTED_VERSION), and transaction.version decides what clients
// are told to use, while requests of either level are answered.
var updateFeaturesAPI = api{key: kmsg.UpdateFeatures, min: 0, max: 2, handle: typed(handleUpdateFeatures)}

func handleUpdateFeatures(s *Server, _ context.Context, r *request, req *kmsg.UpdateFeaturesRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.UpdateFeaturesResponse)
	if err := s.refused(r, kmsg.ACLOperationAlter, kmsg.ACLResourceTypeCluster, clusterName); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	s.updating.Lock()
	defer s.updating.Unlock()
	now, _ := s.levels()
	want := maps.Clone(now)
	var first error
	for _, u := range req.FeatureUpdates {
		err := checkUpdate(now, u, req.Version)
		if err == nil {
			want[u.Feature] = u.MaxVersionLevel
		} else if first == nil {
			first = err
		}
		resp.Results = append(resp.Results, kmsg.UpdateFeaturesResponseResult{Feature: u.Feature, ErrorCode: code(err), ErrorMessage: message(err)})
	}
	if first == nil && !req.ValidateOnly && !maps.Equal(now, want) {
		first = s.Meta.SetFeatures(want)
	}
	resp.ErrorCode, resp.ErrorMessage = code(first), message(first)
	return resp
}

// Upgrade types other than a plain upgrade, from version 1 on (KIP-778).
const (
	upgrade         = 1
	safeDowngrade   = 2
	unsafeDowngrade = 3
)

func checkUpdate(now map[string]int16, u kmsg.UpdateFeaturesRequestFeatureUpdate, version int16) error {
	for _, f := range features {
		if f.name != u.Feature {
			continue
		}
		up, down := true, u.AllowDowngrade
		if version >= 1 {
			up, down = u.UpgradeType == upgrade, u.UpgradeType == safeDowngrade || u.UpgradeType == unsafeDowngrade
		}
		level := u.MaxVersionLevel
		switch {
		case !up && !down:
			return fmt.Errorf("%w: upgrade type %d of %s; want 1 to 3", kerr.InvalidUpdateVersion, u.UpgradeType, f.name)
		case level > now[f.name] && !up:
			return fmt.Errorf("%w: level %d of %s would be no downgrade from %d", kerr.InvalidUpdateVersion, level, f.name, now[f.name])
		case level > f.max || level < 0 || (level < f.min && level != 0):
			return fmt.Errorf("%w: %s has levels %d to %d", kerr.InvalidUpdateVersion, f.name, f.min, f.max)
		case level < now[f.name] && !down:
			return fmt.Errorf("%w: level %d of %s would be a downgrade from %d", kerr.InvalidUpdateVersion, level, f.name, now[f.name])
		}
		return nil
	}
	return fmt.Errorf("%w: there is no feature %q here", kerr.InvalidUpdateVersion, u.Feature)
}

// inForce says whether a feature's level has its requests answered.
func (s *Server) inForce(feature string) error {
	if levels, _ := s.levels(); levels[feature] < 1 {
		return fmt.Errorf("%w: %s is 0 here", kerr.UnsupportedVersion, feature)
	}
	return nil
}
