// Package kubernetes stands in for the provider's SDK for programs in Go, a fifth of all that Pulumi is made from: the
// plugin has it for its components that read manifests and charts (ConfigGroup, v4.Chart), which a program in Python
// that names its resources has no use for.
package kubernetes

import "reflect"

type UntypedArgs map[string]any

func (UntypedArgs) ElementType() reflect.Type { return reflect.TypeFor[map[string]any]() }
