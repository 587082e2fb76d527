package connecttest

import (
	"errors"
	"time"
)

// Asked waits, if the device is well, until it was asked twice more than
// before: the first time may have been under way when its value was set.
func Asked(well bool, before int, asked func() int) error {
	for end := time.Now().Add(20 * time.Second); well && asked() < before+2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("the value was not asked for")
		}
	}
	return nil
}
