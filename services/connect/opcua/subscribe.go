package opcua

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gopcua/opcua"
	"github.com/gopcua/opcua/ua"
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
