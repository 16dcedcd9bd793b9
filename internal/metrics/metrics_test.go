package metrics

import (
	"encoding/json"
	"expvar"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A fan-out counts its lines once as received, and once for each connection as sent.
func TestFanOut(t *testing.T) {
	var c Counters
	c.FanOut(2, 10, 1000)
	c.FanOut(1, 5, 0)
	var vars struct {
		LinesReceived int64 `json:"lines_received"`
		BytesReceived int64 `json:"bytes_received"`
		LinesSent     int64 `json:"lines_sent"`
		BytesSent     int64 `json:"bytes_sent"`
	}
	if err := json.Unmarshal([]byte(c.Vars().String()), &vars); err != nil {
		t.Fatal(err)
	}
	if vars.LinesReceived != 3 || vars.BytesReceived != 15 || vars.LinesSent != 2000 || vars.BytesSent != 10_000 {
		t.Errorf("got %+v, want 3 lines and 15 bytes received, 2000 and 10000 sent", vars)
	}
}

// A hold is counted when it begins, and its seconds when it ends.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Counters
		var h Hold
		for _, held := range []bool{false, true, true, false, false, true} {
			h.Note(held, &c)
			time.Sleep(time.Second)
		}
		if got := c.Held.Value(); got != 2 {
			t.Errorf("held %d times, want 2", got)
		}
		if got := c.HeldSeconds.Value(); got != 2 {
			t.Errorf("held for %v s, want 2", got)
		}
	})
}

// The log of peers has 100 records at once, then one each 10 s, with messages of at most 200 bytes. The next record
// counts the ones that were dropped.
func TestPeerLog(t *testing.T) {
	defer slog.SetDefault(slog.Default())
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
		log := NewPeerLog()
		log.Info(strings.Repeat("x", 300))
		if n := strings.Count(out.String(), "x"); n != 200 {
			t.Errorf("a message of 300 bytes has %d in the log, want 200", n)
		}
		for range 149 {
			log.Info("again")
		}
		if n := strings.Count(out.String(), "\n"); n != 100 {
			t.Errorf("logged %d of 150 records at once, want 100", n)
		}
		time.Sleep(10 * time.Second)
		for range 2 {
			log.Info("later")
		}
		if n := strings.Count(out.String(), "later"); n != 1 || !strings.Contains(out.String(), "left_out=50") {
			t.Errorf("logged %d of 2 records 10 s later, %.200q; want 1, with left_out=50", n, out.String()[max(0, out.Len()-200):])
		}
	})
}

// Each counter has a name in /debug/vars, and docs/operations.md explains each name.
func TestNames(t *testing.T) {
	var c Counters
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	c.Vars().Do(func(v expvar.KeyValue) {
		names++
		if !strings.Contains(string(docs), "`"+v.Key+"`") {
			t.Errorf("docs/operations.md lacks %s", v.Key)
		}
	})
	if fields := reflect.TypeFor[Counters]().NumField(); names != fields {
		t.Errorf("%d counters have %d names", fields, names)
	}
}
