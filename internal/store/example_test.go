package store_test

import (
	"context"
	"fmt"
	"os"

	"example.com/chat/internal/store"
	"example.com/chat/internal/stream"
)

// A room is restored, and written before the program stops. While the program runs, Store.Run writes it too.
func Example() {
	path, err := os.MkdirTemp("", "store")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(path)

	const history = 256
	for range 2 {
		s, err := store.Open(context.Background(), path, store.Options{History: history, MaxRooms: 1000, FileLimit: 64 << 20})
		if err != nil {
			panic(err)
		}
		records, err := s.Read(func(room string) bool { return room == "lobby" })
		if err != nil {
			panic(err)
		}
		lobby, found := stream.New(history), false
		for _, record := range records {
			lobby, found = stream.Restore(history, record), true
		}
		room := s.Room("lobby", found)

		fmt.Println("the lobby has", lobby.End().Lines, "lines")
		lobby.Append(stream.TextFrame([]byte("hello\n")), 1700000000000)

		room.Finish(lobby.Since)
		s.Close(nil)
	}
	// Output:
	// the lobby has 0 lines
	// the lobby has 1 lines
}
