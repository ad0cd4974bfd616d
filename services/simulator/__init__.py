"""A company's customers with a known truth: who is unhappy, who leaves, when and why.

Pure and seeded: the same configuration gives the same events, byte for byte. What Touchstone infers from the
events can be held against what is true.
"""

from services.simulator.simulation import CustomerTruth, Simulation, SimulationConfig, simulate, simulate_customers

__all__ = ["CustomerTruth", "Simulation", "SimulationConfig", "simulate", "simulate_customers"]
