package opcua

import (
	"context"
	"fmt"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"

	"github.com/waysideos/wayside/services/connect"
)

// monitor asks the server to watch what it does not yet. A node that it does
// not have costs that point only.
func (u *subscription) monitor(ctx context.Context) error {
	var items []*ua.MonitoredItemCreateRequest
	var numbers []int
	for i := range u.points {
		if _, missing := u.missing[i]; !missing {
			continue
		}
		item, err := u.item(i)
		if err != nil {
			u.lacks(i, err)
			continue
		}
		items, numbers = append(items, item), append(numbers, i)
	}
	for len(items) > 0 {
		n := min(len(items), itemsPerCall)
		res, err := ask[*ua.CreateMonitoredItemsResponse](ctx, u.client, requestTimeout, &ua.CreateMonitoredItemsRequest{
			SubscriptionID: u.id, TimestampsToReturn: ua.TimestampsToReturnBoth, ItemsToCreate: items[:n],
		})
		if err == nil && len(res.Results) != n {
			err = fmt.Errorf("%d answers for %d nodes", len(res.Results), n)
		}
		if err != nil {
			return fmt.Errorf("ask the server to watch nodes: %w", err)
		}
		for k, r := range res.Results {
			if r == nil {
				continue // asked again in a minute
			}
			if r.StatusCode != ua.StatusOK {
				u.lacks(numbers[k], r.StatusCode)
				continue
			}
			delete(u.missing, numbers[k])
		}
		items, numbers = items[n:], numbers[n:]
	}
	return nil
}

func (u *subscription) item(i int) (*ua.MonitoredItemCreateRequest, error) {
	p := u.points[i]
	id, err := u.node(p.Node)
	if err != nil {
		return nil, err
	}
	item := opcua.NewMonitoredItemCreateRequestWithDefaults(id, ua.AttributeIDValue, uint32(i))
	q := item.RequestedParameters
	q.SamplingInterval, q.QueueSize, q.DiscardOldest = float64(p.sampling)/1e6, uint32(p.Queue), true
	if p.Deadband > 0 {
		q.Filter = ua.NewExtensionObject(&ua.DataChangeFilter{
			Trigger: ua.DataChangeTriggerStatusValue, DeadbandType: uint32(ua.DeadbandTypeAbsolute), DeadbandValue: p.Deadband,
		})
	}
	return item, nil
}

// lacks records once that a point has no value.
func (u *subscription) lacks(i int, err error) {
	p := u.points[i]
	if before := u.missing[i]; before == nil || before.Error() != err.Error() {
		_ = u.box.Readings(connect.Reading{Point: p.Name, Address: p.Node, Unit: p.Unit, Quality: connect.Bad, Detail: err.Error()})
		u.box.Trouble(fmt.Errorf("point %s: %w", p.Name, err))
	}
	u.missing[i] = err
}

// tell says how many points there are, where nothing worse is to be said.
func (u *subscription) tell() {
	if d := u.summary(); !u.bad.Load() {
		u.box.Up(d)
	}
}

// summary is for people; the connection's detail is that from then on.
func (u *subscription) summary() (text string) {
	defer func() { u.detail.Store(&text) }()
	if len(u.missing) == 0 {
		return fmt.Sprintf("%d points", len(u.points))
	}
	return fmt.Sprintf("%d of %d points, the server does not have the others", len(u.points)-len(u.missing), len(u.points))
}

// readings are what a notification says.
func (u *subscription) readings(n *ua.DataChangeNotification, now time.Time) []connect.Reading {
	var all []connect.Reading
	for _, m := range n.MonitoredItems {
		if m == nil || m.Value == nil || int64(m.ClientHandle) >= int64(len(u.points)) {
			continue // a server that makes up items
		}
		p := u.points[m.ClientHandle]
		r := connect.Reading{
			Point: p.Name, Address: p.Node, Unit: p.Unit, BoxTime: now, DeviceTime: m.Value.SourceTimestamp, Exception: p.exception,
			Quality: quality(m.Value.Status), Value: valueOf(m.Value.Value),
		}
		if r.DeviceTime.IsZero() {
			r.DeviceTime = m.Value.ServerTimestamp
		}
		if r.Quality != connect.Good {
			r.Detail = m.Value.Status.Error()
		}
		if m.Value.Status&overflow == overflow {
			r.Detail = "values before this one were lost: the server's queue was full"
		}
		all = append(all, r)
	}
	return all
}

// quality is the severity in a status's highest bits (part 4, 7.34.1).
func quality(s ua.StatusCode) connect.Quality {
	switch s >> 30 {
	case 0:
		return connect.Good
	case 1:
		return connect.Uncertain
	}
	return connect.Bad
}
