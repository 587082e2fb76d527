package server

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/quota"
)

// AlterClientQuotas: sets and removes quotas, which are enforced: bytes
// produced and consumed per second, percentage of a core's time, partitions
// made per second, connections per second of an address. Answered when it is
// durable and in force.
//
// Versions 0 to 1 (KIP-546). A client beyond its quota is answered, told how
// long to wait, and not read from for that long (KIP-219). Time that a
// request waits for records, members or the disk counts for nothing.
var alterClientQuotasAPI = api{key: kmsg.AlterClientQuotas, min: 0, max: 1, handle: typed(handleAlterClientQuotas)}

// maxQuotas is for how many entities there may be quotas.
const maxQuotas = 10000

func handleAlterClientQuotas(s *Server, _ context.Context, r *request, req *kmsg.AlterClientQuotasRequest) kmsg.Response {
	resp := req.ResponseKind().(*kmsg.AlterClientQuotasResponse)
	refused := s.refused(r, kmsg.ACLOperationAlterConfigs, kmsg.ACLResourceTypeCluster, clusterName)
	for _, e := range req.Entries {
		err := refused
		if err == nil {
			err = s.alterQuota(e, req.ValidateOnly)
		}
		out := kmsg.NewAlterClientQuotasResponseEntry()
		out.ErrorCode, out.ErrorMessage = code(err), message(err)
		for _, p := range e.Entity {
			out.Entity = append(out.Entity, kmsg.AlterClientQuotasResponseEntryEntity{Type: p.Type, Name: p.Name})
		}
		resp.Entries = append(resp.Entries, out)
	}
	return resp
}

func (s *Server) alterQuota(e kmsg.AlterClientQuotasRequestEntry, validateOnly bool) error {
	entity, err := quotaEntity(e.Entity)
	if err != nil {
		return err
	}
	s.quotaMu.Lock()
	defer s.quotaMu.Unlock()
	values := s.Meta.Quota(entity)
	if values == nil {
		if len(s.Meta.Quotas()) >= maxQuotas {
			return fmt.Errorf("%w: there are %d quotas already", kerr.PolicyViolation, maxQuotas)
		}
		values = map[string]float64{}
	}
	for _, op := range e.Ops {
		switch {
		case !slices.Contains(quota.Names, op.Key) || quota.ForIP(op.Key) != (entity.IP != nil):
			return fmt.Errorf("%w: no quota %q for such an entity", kerr.InvalidRequest, op.Key)
		case op.Remove:
			delete(values, op.Key)
		case math.IsNaN(op.Value) || math.IsInf(op.Value, 0) || op.Value <= 0:
			return fmt.Errorf("%w: quota %s is %v; want more than 0", kerr.InvalidRequest, op.Key, op.Value)
		default:
			values[op.Key] = op.Value
		}
	}
	if validateOnly {
		return nil
	}
	if err := s.Meta.PutQuotas([]meta.Quota{{Entity: entity, Values: values}}); err != nil {
		s.Log.Error("set quotas", "err", err)
		return err
	}
	s.quotas.Set(s.Meta.Quotas())
	return nil
}

// quotaEntity reads whom a quota is for; a part without a name is the
// default of its kind.
func quotaEntity(parts []kmsg.AlterClientQuotasRequestEntryEntity) (e meta.QuotaEntity, err error) {
	bad := func(format string, a ...any) (meta.QuotaEntity, error) {
		return meta.QuotaEntity{}, fmt.Errorf("%w: %s", kerr.InvalidRequest, fmt.Sprintf(format, a...))
	}
	of := map[string]**string{quotaUser: &e.User, quotaClient: &e.ClientID, quotaIP: &e.IP}
	for _, p := range parts {
		to, ok := of[p.Type]
		name := deref(p.Name)
		switch {
		case !ok:
			return bad("quotas are for user, client-id and ip, not for %q", p.Type)
		case *to != nil:
			return bad("%s is given twice", p.Type)
		case p.Name != nil && name == "":
			return bad("%s has an empty name", p.Type)
		case !utf8.ValidString(name): // the journal keeps text
			return bad("%s is not UTF-8", p.Type)
		case len(name) > meta.MaxACLText:
			return bad("%s is longer than %d bytes", p.Type, meta.MaxACLText)
		}
		if p.Type == quotaIP && name != "" {
			ip, err := netip.ParseAddr(name)
			if err != nil {
				return bad("%q is no IP address", name)
			}
			name = ip.Unmap().String()
		}
		*to = &name
	}
	if len(parts) == 0 || e.IP != nil && len(parts) > 1 {
		return bad("quotas are for a user, a client-id, both, or an ip")
	}
	return e, nil
}
