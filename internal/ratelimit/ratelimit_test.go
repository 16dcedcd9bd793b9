package ratelimit

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever peers do, the log grows slowly, and says how much it leaves out.
func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		const burst, period = 100, 10 * time.Second
		log := slog.New(NewHandler(slog.NewTextHandler(&out, nil), New(burst, period), 200))
		for range 10 * burst {
			log.With("a", 1).WithGroup("g").Info("attack")
		}
		if got := strings.Count(out.String(), "\n"); got != burst {
			t.Errorf("%d lines at once, want %d", got, burst)
		}
		out.Reset()
		time.Sleep(period)
		log.Info("later")
		log.Info("at once again")
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, fmt.Sprint("msg=later left_out=", 9*burst)) {
			t.Errorf("%q", got)
		}
		out.Reset()
		time.Sleep(2 * period)
		log.Info("and later")
		if got := out.String(); !strings.HasSuffix(got, "msg=\"and later\" left_out=1\n") {
			t.Errorf("%q", got)
		}
	})
}
