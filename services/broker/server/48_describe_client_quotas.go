package server

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
)

// DescribeClientQuotas: the quotas that are set.
//
// Versions 0 to 1 (KIP-546).
var describeClientQuotasAPI = api{key: kmsg.DescribeClientQuotas, min: 0, max: 1, handle: typed(handleDescribeClientQuotas)}

// Parts of whom a quota is for.
const (
	quotaUser   = "user"
	quotaClient = "client-id"
	quotaIP     = "ip"
)

func handleDescribeClientQuotas(s *Server, _ context.Context, r *request, req *kmsg.DescribeClientQuotasRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.DescribeClientQuotasResponse)
	err := s.refused(r, kmsg.ACLOperationDescribeConfigs, kmsg.ACLResourceTypeCluster, clusterName)
	if err == nil {
		err = checkComponents(req.Components)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	resp.Entries = []kmsg.DescribeClientQuotasResponseEntry{} // null is for errors: Java's Admin dereferences it
	for _, q := range s.Meta.Quotas() {
		parts := partsOf(q.Entity)
		if !quotaMatches(parts, req) {
			continue
		}
		entry := kmsg.NewDescribeClientQuotasResponseEntry()
		for _, name := range slices.Sorted(maps.Keys(parts)) {
			e := kmsg.NewDescribeClientQuotasResponseEntryEntity()
			e.Type = name
			if v := parts[name]; v != "" {
				e.Name = &v
			}
			entry.Entity = append(entry.Entity, e)
		}
		for _, name := range slices.Sorted(maps.Keys(q.Values)) {
			v := kmsg.NewDescribeClientQuotasResponseEntryValue()
			v.Key, v.Value = name, q.Values[name]
			entry.Values = append(entry.Values, v)
		}
		resp.Entries = append(resp.Entries, entry)
	}
	return resp
}

// partsOf are the parts that an entity has; "" is the default.
func partsOf(e meta.QuotaEntity) map[string]string {
	parts := map[string]string{}
	for name, p := range map[string]*string{quotaUser: e.User, quotaClient: e.ClientID, quotaIP: e.IP} {
		if p != nil {
			parts[name] = *p
		}
	}
	return parts
}

func checkComponents(all []kmsg.DescribeClientQuotasRequestComponent) error {
	seen := map[string]bool{}
	for _, c := range all {
		switch {
		case c.EntityType != quotaUser && c.EntityType != quotaClient && c.EntityType != quotaIP:
			return fmt.Errorf("%w: quotas are for user, client-id and ip, not for %q", kerr.UnsupportedVersion, c.EntityType)
		case seen[c.EntityType]:
			return fmt.Errorf("%w: %s is given twice", kerr.InvalidRequest, c.EntityType)
		case c.MatchType < kmsg.QuotasMatchTypeExact || c.MatchType > kmsg.QuotasMatchTypeAny:
			return fmt.Errorf("%w: match type %d", kerr.InvalidRequest, c.MatchType)
		case c.MatchType == kmsg.QuotasMatchTypeExact && deref(c.Match) == "":
			return fmt.Errorf("%w: an exact match needs a name", kerr.InvalidRequest)
		}
		seen[c.EntityType] = true
	}
	if seen[quotaIP] && len(seen) > 1 {
		return fmt.Errorf("%w: quotas of an ip are for nothing else", kerr.InvalidRequest)
	}
	return nil
}

// quotaMatches follows KIP-546: every component must match, and if the
// request is strict there must be no further part.
func quotaMatches(parts map[string]string, req *kmsg.DescribeClientQuotasRequest) bool {
	if req.Strict && len(parts) != len(req.Components) {
		return false
	}
	for _, c := range req.Components {
		name, ok := parts[c.EntityType]
		switch {
		case !ok:
			return false
		case c.MatchType == kmsg.QuotasMatchTypeExact && name != deref(c.Match),
			c.MatchType == kmsg.QuotasMatchTypeDefault && name != "":
			return false
		}
	}
	return true
}
