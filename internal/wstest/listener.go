package wstest

import (
	"errors"
	"net"
	"testing"
	"time"
)

// Listener accepts connections in memory: for a testing/synctest bubble, where
// time passes only when everyone waits, and real sockets don't count as waiting.
type Listener struct{ conns chan net.Conn }

// NewListener returns a Listener that nobody has dialled.
func NewListener() Listener { return Listener{make(chan net.Conn)} }

func (l Listener) Accept() (net.Conn, error) {
	if conn, ok := <-l.conns; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l Listener) Close() error   { close(l.conns); return nil }
func (l Listener) Addr() net.Addr { return &net.TCPAddr{} }

// Dial returns the client's end of a new connection.
func (l Listener) Dial(t testing.TB) net.Conn {
	up, upServer := net.Pipe()
	down, downServer := net.Pipe()
	l.conns <- duplex{upServer, downServer}
	client := duplex{down, up}
	t.Cleanup(func() { client.Close() })
	return client
}

// duplex is a connection in memory of which each half can be closed by itself,
// as with TCP: what is read comes from the embedded pipe, out takes what is written.
type duplex struct {
	net.Conn
	out net.Conn
}

// Close closes the half that is read first: a Read must say that it was closed here, not that the
// other end answered with EOF.
func (d duplex) Close() error { return errors.Join(d.Conn.Close(), d.out.Close()) }

func (d duplex) Write(b []byte) (int, error)        { return d.out.Write(b) }
func (d duplex) CloseWrite() error                  { return d.out.Close() }
func (d duplex) SetWriteDeadline(t time.Time) error { return d.out.SetWriteDeadline(t) }
func (d duplex) SetDeadline(t time.Time) error {
	return errors.Join(d.out.SetWriteDeadline(t), d.Conn.SetReadDeadline(t))
}
