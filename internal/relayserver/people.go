package relayserver

import "time"

const (
	// peoplePeriod is the time between two checks whether this chat's people have changed.
	peoplePeriod = time.Second

	// peopleRepeat is the time after which an unchanged report is repeated.
	peopleRepeat = 5 * time.Second

	// peopleExpire is the time after which another chat without a report counts as gone. It allows two reports to
	// be lost.
	peopleExpire = 15 * time.Second
)

// presence is a chat's report of its people.
type presence struct {
	people map[string]int // connections by room, without empty rooms
	at     time.Time      // when it was sent or received
}

// setPeople records the people of another chat.
func (s *Server) setPeople(origin string, people map[string]int) {
	if origin == s.origin {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.people[origin] = presence{people, time.Now()}
}

// remotePeople forgets the chats that have been silent for peopleExpire. It returns the number of people at
// all other chats, by room.
func (s *Server) remotePeople(now time.Time) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := make(map[string]int)
	for origin, p := range s.people {
		if now.Sub(p.at) > peopleExpire {
			delete(s.people, origin)
			continue
		}
		for room, n := range p.people {
			sum[room] += n
		}
	}
	return sum
}
