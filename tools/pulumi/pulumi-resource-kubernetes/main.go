// The Kubernetes plugin of Pulumi, as its own main package makes it, without its code generator.
// The two embedded files are copied here from the provider's module before the build.
package main

import (
	_ "embed"

	"github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/provider"
)

// The release that the commit pinned in go.mod became; the engine asks for plugins by version.
const version = "4.25.0"

//go:embed schema.json
var schema []byte

//go:embed terraform-mapping.json
var mapping []byte

func main() {
	provider.Serve("kubernetes", version, schema, mapping)
}
