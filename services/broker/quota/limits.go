package quota

import "github.com/waysideos/wayside/services/broker/meta"

// entity is whom a quota is set for. Of each part: its name, byDefault, or
// absent.
type entity struct{ user, client, ip string }

// No user and no client has such a name: the protocol's strings are UTF-8.
const (
	absent    = "\xff"
	byDefault = "\xfe"
)

// limits are all quotas, by name and entity.
type limits map[string]map[entity]float64

type bucketKey struct {
	name string
	entity
}

func newLimits(quotas []meta.Quota) *limits {
	l := limits{}
	for _, q := range quotas {
		e := entity{part(q.Entity.User), part(q.Entity.ClientID), part(q.Entity.IP)}
		for name, rate := range q.Values {
			if l[name] == nil {
				l[name] = map[entity]float64{}
			}
			l[name][e] = rate
		}
	}
	if len(l) == 0 {
		return nil
	}
	return &l
}

func part(s *string) string {
	switch {
	case s == nil:
		return absent
	case *s == "":
		return byDefault
	}
	return *s
}

// find returns a client's quota by Kafka's precedence: what names the user
// comes before what names only the client id, the more of both the earlier,
// a name before a default. A default is per client: each has a bucket of its
// own.
func (l *limits) find(name, user, client string) (rate float64, key bucketKey, ok bool) {
	set := (*l)[name]
	if len(set) == 0 {
		return 0, key, false
	}
	for _, u := range [...]string{user, byDefault, absent} {
		for _, c := range [...]string{client, byDefault, absent} {
			if rate, ok = set[entity{u, c, absent}]; !ok {
				continue
			}
			if u != absent {
				u = user
			}
			if c != absent {
				c = client
			}
			return rate, bucketKey{name, entity{u, c, absent}}, true
		}
	}
	return 0, key, false
}

func (l *limits) findIP(ip string) (rate float64, key bucketKey, ok bool) {
	for _, i := range [...]string{ip, byDefault} {
		if rate, ok = (*l)[Connections][entity{absent, absent, i}]; ok {
			return rate, bucketKey{Connections, entity{absent, absent, ip}}, true
		}
	}
	return 0, key, false
}
