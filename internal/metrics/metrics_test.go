package metrics

import (
	"encoding/json"
	"testing"
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
