package budget

import "testing"

// fill has each room of a budget of limit bytes hold as much as it may, in small steps and in turn, until none may
// hold more. It returns what each holds.
func fill(limit int64, rooms []*Account, step int64) (held []int64) {
	for grown := true; grown; {
		grown = false
		for _, room := range rooms {
			if room.held+step <= room.Hold(room.held+step) {
				grown = true
			} else {
				room.Hold(room.held - step)
			}
		}
	}
	for _, room := range rooms {
		held = append(held, room.held)
	}
	return held
}

// n rooms that take what they may get 1/(n+1) of the budget each.
func TestShares(t *testing.T) {
	const limit, step = 320 << 20, 64 << 10
	for _, test := range []struct {
		rooms int
		want  int64
	}{{1, 160 << 20}, {4, 64 << 20}, {40, 320 << 20 / 41}, {1000, 320 << 20 / 1001}} {
		b := New(limit)
		var rooms []*Account
		for range test.rooms {
			room := b.Account()
			rooms = append(rooms, &room)
		}
		for i, got := range fill(limit, rooms, step) {
			if got < test.want-2*step || got > test.want+step {
				t.Fatalf("%d rooms: room %d got %d bytes, want %d", test.rooms, i, got, test.want)
			}
		}
	}
}

// A room that needs memory later gets it from the room that holds most. A room that holds little never has to
// shrink.
func TestTheLargestPaysFirst(t *testing.T) {
	b := New(100)
	large, middle, small := b.Account(), b.Account(), b.Account()
	for _, test := range []struct {
		name string
		room *Account
		hold int64
		free int64
	}{
		{"the first room may hold half", &large, 50, 50},
		{"the next room takes some of the rest", &middle, 20, 30},
		{"the largest no longer may hold as much", &large, 50, 30},
		{"the others still may", &middle, 20, 30},
		{"it shrinks to what is left", &large, 40, 40},
		{"one more room", &small, 10, 30},
		{"the largest pays again", &large, 35, 35},
		{"the others don't", &middle, 20, 35},
		{"a room that ends gives all back", &large, 0, 70},
		{"more than there is leaves nothing", &large, 200, 0},
		{"and nothing is lost", &large, 0, 70},
	} {
		if got := test.room.Hold(test.hold); got != test.free {
			t.Errorf("%s: got %d bytes free, want %d", test.name, got, test.free)
		}
	}
}
