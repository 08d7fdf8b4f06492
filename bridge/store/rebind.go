package store

import (
	"context"
	"database/sql/driver"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/stdlib"
)

// All statements are written once, with SQLite's parameters: ? and ?1. For PostgreSQL these become $1.

// rebinding makes connections that translate.
type rebinding struct{ driver.Connector }

// Connect implements driver.Connector.
func (r rebinding) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return rebindingConn{c.(*stdlib.Conn)}, nil
}

type rebindingConn struct{ *stdlib.Conn }

// PrepareContext implements driver.ConnPrepareContext.
func (c rebindingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.Conn.PrepareContext(ctx, rebound(query))
}

// ExecContext implements driver.ExecerContext.
func (c rebindingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.ExecContext(ctx, rebound(query), args)
}

// QueryContext implements driver.QueryerContext.
func (c rebindingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.QueryContext(ctx, rebound(query), args)
}

var reboundBefore sync.Map // the statements are constants: there is a fixed number of them

func rebound(query string) string {
	if known, ok := reboundBefore.Load(query); ok {
		return known.(string)
	}
	translated := rebind(query)
	reboundBefore.Store(query, translated)
	return translated
}

// rebind writes the parameters as PostgreSQL has them. What is quoted stays.
func rebind(query string) string {
	var out strings.Builder
	next, quote := 1, byte(0)
	for i := 0; i < len(query); i++ {
		c := query[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '?':
			out.WriteByte('$')
			if i+1 == len(query) || query[i+1] < '0' || query[i+1] > '9' {
				out.WriteString(strconv.Itoa(next))
				next++
			}
			continue
		}
		out.WriteByte(c)
	}
	return out.String()
}
