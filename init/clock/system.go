//go:build linux

package clock

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/beevik/ntp"
	"golang.org/x/sys/unix"
)

// system is the kernel's clock.
type system interface {
	now() time.Time
	step(time.Time) error
	// slew lets the clock run faster or slower until offset is gone.
	slew(offset time.Duration) error
	// synchronised tells the kernel that its clock is right within distance,
	// whereupon it copies it to the hardware clock every eleven minutes.
	synchronised(distance time.Duration) error
}

type linux struct{}

func (linux) now() time.Time { return time.Now() }

func (linux) step(t time.Time) error {
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %v", err)
	}
	return nil
}

func (linux) slew(offset time.Duration) error {
	tx := unix.Timex{Modes: unix.ADJ_OFFSET_SINGLESHOT, Offset: offset.Microseconds()}
	if _, err := unix.Adjtimex(&tx); err != nil {
		return fmt.Errorf("slew the clock: %v", err)
	}
	return nil
}

func (linux) synchronised(distance time.Duration) error {
	var tx unix.Timex
	if _, err := unix.Adjtimex(&tx); err != nil {
		return fmt.Errorf("read the clock's state: %v", err)
	}
	micros := distance.Microseconds()
	tx = unix.Timex{Modes: unix.ADJ_STATUS | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR,
		Status: tx.Status &^ unix.STA_UNSYNC, Maxerror: micros, Esterror: micros}
	if _, err := unix.Adjtimex(&tx); err != nil {
		return fmt.Errorf("mark the clock as synchronised: %v", err)
	}
	return nil
}

// queryTimeout bounds one exchange with a server, name resolution apart.
const queryTimeout = 3 * time.Second

// query asks a server and checks its answer: leap, stratum, kiss of death,
// causality, root distance (RFC 5905).
func query(ctx context.Context, server string) (sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := ntp.QueryWithOptions(server, ntp.QueryOptions{
		Timeout: queryTimeout,
		Dialer: func(_, remote string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: 2 * queryTimeout}).DialContext(ctx, "udp", remote)
			if err == nil {
				// Closing ends the read: a stop must not wait for a server.
				// At the end of this query it closes once more, in vain.
				context.AfterFunc(ctx, func() { conn.Close() })
			}
			return conn, err
		},
	})
	if err != nil {
		return sample{}, err
	}
	if err := r.Validate(); err != nil {
		if r.IsKissOfDeath() {
			return sample{}, kissOfDeath(r.KissCode)
		}
		return sample{}, err
	}
	return sample{server: server, offset: r.ClockOffset, distance: r.RootDistance}, nil
}

// kissOfDeath is a server's wish to be left alone (RFC 5905, 7.4).
type kissOfDeath string

func (k kissOfDeath) Error() string { return "the server wants no more requests: " + string(k) }
