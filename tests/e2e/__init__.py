"""The main job on a real cluster: installed by Helm, signed by the real cosign, asked by kubectl."""
