// SPDX-License-Identifier: Apache-2.0

package main

import pb "demo/fabricspb"

// The ballot, in the order in which the page shows it. A weave is one of those in web/page/weaves.js.
var ballot = []*pb.Fabric{
	{Id: "linen", Name: "Linen", Note: "Creases if you look at it", Weave: "plain", Ground: "#d9cbb0", Thread: "#a8946d"},
	{Id: "denim", Name: "Denim", Note: "Better every year", Weave: "twill", Ground: "#34527a", Thread: "#8fa9c9"},
	{Id: "velvet", Name: "Velvet", Note: "Stroke it one way only", Weave: "pile", Ground: "#6d1733", Thread: "#b0415f"},
	{Id: "tweed", Name: "Tweed", Note: "Smells faintly of moor", Weave: "herringbone", Ground: "#6f6a4d", Thread: "#b9ad83"},
	{Id: "gingham", Name: "Gingham", Note: "Bring your own picnic", Weave: "check", Ground: "#f5efe4", Thread: "#c8372f"},
	{Id: "corduroy", Name: "Corduroy", Note: "Audible at walking pace", Weave: "wale", Ground: "#9a5a22", Thread: "#c9873f"},
	{Id: "silk", Name: "Silk", Note: "A thousand metres a cocoon", Weave: "satin", Ground: "#b98a9c", Thread: "#f3dce2"},
	{Id: "flannel", Name: "Flannel", Note: "Chops wood at weekends", Weave: "tartan", Ground: "#8c2f2b", Thread: "#1f3a34"},
	{Id: "tulle", Name: "Tulle", Note: "Mostly holes, holds everything", Weave: "net", Ground: "#e9e4f0", Thread: "#7d6aa6"},
	{Id: "houndstooth", Name: "Houndstooth", Note: "Has never bitten anyone", Weave: "tooth", Ground: "#f1ece2", Thread: "#26262b"},
	{Id: "seersucker", Name: "Seersucker", Note: "Ironing is cheating", Weave: "stripe", Ground: "#f4f3ee", Thread: "#6f9ac4"},
	{Id: "lace", Name: "Lace", Note: "Somebody's grandmother's", Weave: "lace", Ground: "#3d4a45", Thread: "#f3efe6"},
	{Id: "brocade", Name: "Brocade", Note: "Wore it to the opera once", Weave: "damask", Ground: "#1f4d46", Thread: "#cfa951"},
	{Id: "jersey", Name: "Jersey", Note: "Moves when you move", Weave: "knit", Ground: "#55707f", Thread: "#93adb9"},
	{Id: "felt", Name: "Felt", Note: "No weave, no worries", Weave: "fleck", Ground: "#4d7a50", Thread: "#a9c79b"},
	{Id: "cashmere", Name: "Cashmere", Note: "The moths know", Weave: "moth", Ground: "#c9b8a4", Thread: "#8d7762"},
}

// find returns the fabric of that id, or nil.
func find(id string) *pb.Fabric {
	for _, fabric := range ballot {
		if fabric.Id == id {
			return fabric
		}
	}
	return nil
}
