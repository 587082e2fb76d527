package opcua

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"

	"github.com/waysideos/wayside/services/connect"
)

const (
	// quiet is how long a server may have no news before it says that it is
	// there (part 4, 5.13.2).
	quiet = 10 * time.Second
	// itemsPerCall is what every server takes at once.
	itemsPerCall = 100
	// overflow is the bit of a status that says that the server's queue was
	// too short (part 4, 7.34.1).
	overflow = 0x480
)

// subscription is what the server watches for us. It may outlive a connection.
type subscription struct {
	*session
	at      *opcua.Session // that it belongs to, between two connections
	id      uint32
	silence time.Duration // of a server that is well
	next    uint32        // sequence number of what comes next; 0: not known
	over    bool          // the server does not have it any more
	missing map[int]error // points that the server does not have, by number
	bad     atomic.Bool   // the last readings were none
	detail  atomic.Pointer[string]
}

// subscribe goes on with the subscription of the last connection, or makes a
// new one.
func (s *session) subscribe(ctx context.Context) (*subscription, error) {
	if u := s.left; u != nil {
		err := u.resume(ctx, s)
		if err == nil {
			s.left = nil
			return u, nil
		}
		if status := ua.StatusCode(0); !errors.As(err, &status) {
			return nil, fmt.Errorf("take the subscription up again: %w", err) // lost once more
		}
		s.left = nil
		s.box.Log().Warn("the server has forgotten the subscription, what it had queued is lost", "error", err)
	}
	u := &subscription{session: s, missing: map[int]error{}}
	alive := max(1, quiet/s.interval)
	res, err := ask[*ua.CreateSubscriptionResponse](ctx, s.client, requestTimeout, &ua.CreateSubscriptionRequest{
		RequestedPublishingInterval: float64(s.interval) / 1e6, RequestedMaxKeepAliveCount: uint32(alive),
		RequestedLifetimeCount: uint32(max(3*alive, sessionTimeout/s.interval)), MaxNotificationsPerPublish: 1000, PublishingEnabled: true,
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	u.id = res.SubscriptionID
	u.silence = time.Duration(res.RevisedPublishingInterval*1e6) * time.Duration(res.RevisedMaxKeepAliveCount)
	for i := range s.points {
		u.missing[i] = nil
	}
	return u, u.monitor(ctx)
}

// resume takes the subscription up again on a new connection: with its
// session, or with a new one that it is transferred to (part 4, 5.6.3 and
// 5.13.7). An error that is a status says that the server does not have it.
func (u *subscription) resume(ctx context.Context, s *session) error {
	if s.client.Session() != u.at {
		res, err := ask[*ua.TransferSubscriptionsResponse](ctx, s.client, requestTimeout, &ua.TransferSubscriptionsRequest{SubscriptionIDs: []uint32{u.id}})
		switch {
		case err != nil:
			return err
		case len(res.Results) != 1 || res.Results[0] == nil:
			return ua.StatusBadSubscriptionIDInvalid
		case res.Results[0].StatusCode != ua.StatusOK:
			return res.Results[0].StatusCode
		}
	}
	u.session = s
	return u.republish(ctx, u.next)
}

// publish asks for news again and again until the connection ends. What is
// spooled is acknowledged with the next question.
func (u *subscription) publish(ctx context.Context) error {
	var acks []*ua.SubscriptionAcknowledgement
	spoke := false
	for heard := time.Now(); ; {
		res, err := ask[*ua.PublishResponse](ctx, u.client, publishWait(u.interval), &ua.PublishRequest{SubscriptionAcknowledgements: acks})
		timeout := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ua.StatusBadTimeout)
		switch {
		case timeout && ctx.Err() == nil && time.Since(heard) < u.silence+requestTimeout:
			acks = nil // a server that wants to be silent for longer
			continue
		case errors.Is(err, ua.StatusBadNoSubscription), errors.Is(err, ua.StatusBadSubscriptionIDInvalid):
			u.over = true
		case timeout && ctx.Err() == nil:
			u.over = !spoke // or it would say nothing to the next connection either
			err = fmt.Errorf("the server was silent for %s", time.Since(heard).Round(time.Second))
		}
		if err != nil {
			return err
		}
		spoke, heard, acks = true, time.Now(), nil
		m := res.NotificationMessage
		if m == nil || res.SubscriptionID != u.id {
			continue
		}
		if u.next != 0 && m.SequenceNumber-u.next-1 < 1<<31 { // some are missing
			if err := u.republish(ctx, m.SequenceNumber); err != nil {
				return err
			}
		}
		if len(m.NotificationData) == 0 { // it has no news, and says the number of the next
			u.next = m.SequenceNumber
			continue
		}
		if err := u.take(m); err != nil {
			return err
		}
		acks = []*ua.SubscriptionAcknowledgement{{SubscriptionID: u.id, SequenceNumber: m.SequenceNumber}}
	}
}

// publishWait is how long the answer to a question for news may take.
func publishWait(interval time.Duration) time.Duration {
	return max(quiet, interval) + requestTimeout
}

// republish asks for what the server has published and nobody has heard, up
// to that number; with that which is due, to the last that there is.
func (u *subscription) republish(ctx context.Context, to uint32) error {
	for all := to == u.next; u.next != 0 && (all || u.next != to); {
		res, err := ask[*ua.RepublishResponse](ctx, u.client, requestTimeout, &ua.RepublishRequest{SubscriptionID: u.id, RetransmitSequenceNumber: u.next})
		gone := errors.Is(err, ua.StatusBadMessageNotAvailable) || errors.Is(err, ua.StatusBadServiceUnsupported)
		if err != nil && !gone {
			return err
		}
		if gone || res.NotificationMessage == nil || res.NotificationMessage.SequenceNumber != u.next { // asyncua answers with an empty one
			if !all {
				u.box.Log().Warn("the server does not have again what was lost on the way", "from", u.next, "to", to)
			}
			return nil
		}
		if err := u.take(res.NotificationMessage); err != nil {
			return err
		}
	}
	return nil
}

// take records what the server has published.
func (u *subscription) take(m *ua.NotificationMessage) error {
	if u.next = m.SequenceNumber + 1; u.next == 0 {
		u.next = 1 // part 4, 7.21
	}
	for _, d := range m.NotificationData {
		var v any
		if d != nil {
			v = d.Value
		}
		switch v := v.(type) {
		case *ua.DataChangeNotification:
			err := u.box.Readings(u.readings(v, time.Now())...)
			if err != nil { // of one that can never be a record, and is a dead letter
				u.box.Trouble(err)
			} else if u.bad.Load() {
				u.box.Up(*u.detail.Load())
			}
			u.bad.Store(err != nil)
		case *ua.StatusChangeNotification:
			if v.Status != ua.StatusOK && v.Status != ua.StatusGoodSubscriptionTransferred {
				u.over = true
				return fmt.Errorf("the server ends the subscription: %w", v.Status)
			}
		default:
			u.box.Trouble(fmt.Errorf("the server publishes %T, which nobody understands", v))
			u.bad.Store(true)
		}
	}
	return nil
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
