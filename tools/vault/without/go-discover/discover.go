// Package discover stands in for the module that finds a Raft cluster's members in every cloud there is. The clouds'
// clients are two fifths of a minimal Vault; the lab's has one member.
package discover

import (
	"errors"
	"log"
)

var errLeftOut = errors.New("auto_join: this Vault is built without it (tools/vault/without/go-discover)")

type Config map[string]string

func (Config) String() string { return "" }

func Parse(string) (Config, error) { return nil, errLeftOut }

type Provider interface {
	Addrs(map[string]string, *log.Logger) ([]string, error)
	Help() string
}

var Providers map[string]Provider

type Option func()

func WithProviders(map[string]Provider) Option { return nil }

type Discover struct{}

func New(...Option) (*Discover, error) { return &Discover{}, nil }

func (*Discover) Addrs(string, *log.Logger) ([]string, error) { return nil, errLeftOut }
