package opcua

import (
	"context"
	"fmt"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"

	"github.com/waysideos/wayside/services/connect"
)

const (
	// keepAlive intervals without news after which the server says that it is
	// there, and lifetime intervals for which it keeps a subscription whose
	// client is away (part 4, 5.13.2).
	keepAlive = 10
	lifetime  = 6000
	// itemsPerCall is what every server takes at once.
	itemsPerCall = 100
	// overflow is the bit of a status that says that the server's queue was
	// too short (part 4, 7.34.1).
	overflow = 0x480
)

// subscription is what the server watches for us.
type subscription struct {
	*session
	sub     *opcua.Subscription
	notes   chan *opcua.PublishNotificationData
	missing map[int]error // points that the server does not have, by number
}

func (s *session) subscribe(ctx context.Context) (*subscription, error) {
	// A full channel holds back the library, and so the server: it queues.
	sub := &subscription{session: s, notes: make(chan *opcua.PublishNotificationData, 16), missing: map[int]error{}}
	if len(s.points) == 0 {
		return sub, nil
	}
	var err error
	sub.sub, err = s.client.Subscribe(ctx, &opcua.SubscriptionParameters{
		Interval: s.interval, MaxKeepAliveCount: keepAlive, LifetimeCount: lifetime, MaxNotificationsPerPublish: 1000,
	}, sub.notes)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	for i := range s.points {
		sub.missing[i] = nil
	}
	return sub, sub.monitor(ctx)
}

func (u *subscription) close(ctx context.Context) {
	if u.sub == nil || ctx.Err() == nil {
		return // the session goes with its subscriptions
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = u.sub.Cancel(ctx)
}

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
		res, err := u.sub.Monitor(ctx, ua.TimestampsToReturnBoth, items[:n]...)
		if err != nil {
			return fmt.Errorf("ask the server to watch nodes: %w", err)
		}
		for k, r := range res.Results {
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

func (u *subscription) summary() string {
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
