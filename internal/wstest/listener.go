package wstest

import (
	"errors"
	"net"
	"testing"
	"time"
)

// Listener is a net.Listener whose connections are in memory. It is for testing/synctest, where time passes
// only while all goroutines are blocked, and a goroutine that reads a real socket does not count as
// blocked.
type Listener struct{ conns chan net.Conn }

// NewListener returns a Listener. In a synctest bubble, it must be called within the bubble.
func NewListener() Listener { return Listener{make(chan net.Conn)} }

// Accept implements net.Listener.
func (l Listener) Accept() (net.Conn, error) {
	if conn, ok := <-l.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener. It must be called only once, and not during a call of Dial.
func (l Listener) Close() error { close(l.conns); return nil }

// Addr implements net.Listener. All Listeners have the same address.
func (l Listener) Addr() net.Addr { return &net.TCPAddr{} }

// Dial waits until the server accepts a new connection, and returns the client's end. The
// connection is closed at the end of the test.
func (l Listener) Dial(t testing.TB) net.Conn {
	up, upServer := net.Pipe()
	down, downServer := net.Pipe()
	l.conns <- duplex{upServer, downServer}
	client := duplex{down, up}
	t.Cleanup(func() { client.Close() })
	return client
}

// duplex is one end of a connection in memory. As with TCP, it can close its writing half alone.
type duplex struct {
	net.Conn          // the pipe from which it reads
	out      net.Conn // the pipe to which it writes
}

// Close closes the reading half first. In the other order, the other end could react to the end of its
// input by closing too, and a Read here would return io.EOF instead of an error for a closed connection.
func (d duplex) Close() error { return errors.Join(d.Conn.Close(), d.out.Close()) }

// The methods below use the writing half.

func (d duplex) Write(b []byte) (int, error)        { return d.out.Write(b) }
func (d duplex) CloseWrite() error                  { return d.out.Close() }
func (d duplex) SetWriteDeadline(t time.Time) error { return d.out.SetWriteDeadline(t) }
func (d duplex) SetDeadline(t time.Time) error {
	return errors.Join(d.out.SetWriteDeadline(t), d.Conn.SetReadDeadline(t))
}
