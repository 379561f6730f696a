"""What turns requests into clips: the engine's protocol, its factory, and the diffusers engine.

Knows neither Ray nor attempts.
"""
